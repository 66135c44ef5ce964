from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_app.inputs.ranking import read_ranking
from lightning_app.pool.difficulty import rank_by_difficulty, write_ranking

PATHS = ["b/1.png", "a/2.png", "a/1.png", "c/1.png", "c/2.png"]
CORRECT = np.array([[1, 0, 1, 1, 0], [1, 0, 1, 0, 0], [1, 0, 1, 0, 0]], dtype=np.uint8)
LOSSES = np.array([[0.5, 3, 0.5, 1, 2], [0.5, 3, 0.5, 2, 2], [0.5, 3, 0.5, 3, 2]])


def test_fewest_right_is_hardest_and_ties_go_by_mean_loss_then_path() -> None:
    frame = rank_by_difficulty(PATHS, CORRECT, LOSSES)
    assert frame["path"].tolist() == ["a/1.png", "b/1.png", "c/1.png", "c/2.png", "a/2.png"]
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5]
    assert frame["rank_average"].tolist() == [1.5, 1.5, 3, 4.5, 4.5]
    assert frame["n_correct"].tolist() == [3, 3, 1, 0, 0]
    assert frame["n_models"].tolist() == [3] * 5
    assert frame["mean_loss"].tolist() == [0.5, 0.5, 2, 2, 3]


def test_the_study_reads_the_ranking_back() -> None:
    write_ranking(Path(), rank_by_difficulty(PATHS, CORRECT, LOSSES))
    ranking = read_ranking(Path("ranking.csv"))
    assert [(entry.path, entry.rank) for entry in ranking.paths] == [
        ("a/1.png", 1), ("b/1.png", 2), ("c/1.png", 3), ("c/2.png", 4), ("a/2.png", 5),
    ]  # fmt: skip
    assert Path("ranking.csv").read_text().splitlines()[:2] == [
        "path,rank,rank_average,n_correct,n_models,mean_loss",
        "a/1.png,1,1.5,3,3,0.5",
    ]


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_an_image_that_more_models_get_right_is_never_harder(correct: np.ndarray) -> None:
    models, images = correct.shape
    losses = np.arange(models * images, dtype=np.float64).reshape(models, images)
    frame = rank_by_difficulty([f"{i:02}" for i in range(images)], correct, losses)
    assert frame["n_correct"].is_monotonic_decreasing
    assert sorted(frame["path"]) == [f"{i:02}" for i in range(images)]
    assert frame["rank_average"].sum() == frame["rank"].sum()
