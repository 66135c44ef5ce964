from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_app.data.ranking import read_ranking
from lightning_app.pool.difficulty import average_ranks, one_line, rank_by_difficulty, ranking_text, say_ties
from lightning_app.pool.matrix import Pool

PATHS = ("b/1.png", "a/2.png", "a/1.png", "c/1.png", "c/2.png")
CORRECT = np.array([[1, 0, 1, 1, 0], [1, 0, 1, 0, 0], [1, 0, 1, 0, 0]], dtype=np.uint8)
LOSSES = np.array([[0.5, 3, 0.5, 1, 2], [0.5, 3, 0.5, 2, 2], [0.5, 3, 0.5, 3, 2]])
POOL = Pool(Path(), ("x", "y", "z"), PATHS, CORRECT, LOSSES)
RANKING = Path("ranking.csv")


def test_fewest_right_is_hardest_and_ties_go_by_mean_loss_then_path() -> None:
    frame = rank_by_difficulty(POOL)
    assert frame["path"].tolist() == ["a/1.png", "b/1.png", "c/1.png", "c/2.png", "a/2.png"]
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5]
    assert frame["rank_average"].tolist() == [1.5, 1.5, 3, 4.5, 4.5]
    assert frame["n_correct"].tolist() == [3, 3, 1, 0, 0]
    assert frame["n_models"].tolist() == [3] * 5
    assert frame["mean_loss"].tolist() == [0.5, 0.5, 2, 2, 3]
    assert say_ties(frame) == (
        "4 of 5 images have as many models wrong as another image has: ordered by mean loss, then by path"
    )


def test_without_losses_ties_go_by_path() -> None:
    frame = rank_by_difficulty(Pool(Path(), ("x", "y", "z"), PATHS, CORRECT))
    assert frame["path"].tolist() == ["a/1.png", "b/1.png", "c/1.png", "a/2.png", "c/2.png"]
    assert frame["mean_loss"].isna().all()
    assert say_ties(frame).endswith("ordered by path, since the pool has no losses")
    RANKING.write_text(ranking_text(frame))
    assert RANKING.read_text().splitlines()[1] == "a/1.png,1,1.5,3,3,"


def test_no_ties_are_said() -> None:
    one = Pool(Path(), ("x",), PATHS[:2], np.array([[0, 1]], dtype=np.uint8))
    assert say_ties(rank_by_difficulty(one)) == "No two of the 2 images have the same number of wrong models"


def test_the_study_reads_the_ranking_back() -> None:
    RANKING.write_text(ranking_text(rank_by_difficulty(POOL)))
    ranking = read_ranking(RANKING)
    assert [(entry.path, entry.rank) for entry in ranking.paths] == [
        ("a/1.png", 1), ("b/1.png", 2), ("c/1.png", 3), ("c/2.png", 4), ("a/2.png", 5),
    ]  # fmt: skip
    assert RANKING.read_text().splitlines()[:2] == [
        "path,rank,rank_average,n_correct,n_models,mean_loss",
        "a/1.png,1,1.5,3,3,0.5",
    ]


def test_labels_go_along() -> None:
    RANKING.write_text(
        ranking_text(rank_by_difficulty(Pool(Path(), ("x", "y", "z"), PATHS, CORRECT, LOSSES, (7, 3, 4, 1, 0))))
    )
    assert [(entry.path, entry.label) for entry in read_ranking(RANKING).paths] == [
        ("a/1.png", 4), ("b/1.png", 7), ("c/1.png", 1), ("c/2.png", 0), ("a/2.png", 3),
    ]  # fmt: skip


def test_the_one_line_form_is_the_published_one() -> None:
    frame = rank_by_difficulty(POOL)
    line = one_line(frame)
    assert line == "a/1.png,b/1.png,c/1.png,c/2.png,a/2.png\n"
    frame["path"] = ['odd, "name".png', *frame["path"].tolist()[1:]]
    odd = one_line(frame)
    assert odd is not None
    Path("line.csv").write_text(odd)
    assert [entry.path for entry in read_ranking(Path("line.csv")).paths] == frame["path"].tolist()
    frame["path"] = ["two\nlines.png", *frame["path"].tolist()[1:]]
    assert one_line(frame) is None


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_an_image_that_more_models_get_right_is_never_harder(correct: np.ndarray) -> None:
    models, images = correct.shape
    losses = np.arange(models * images, dtype=np.float64).reshape(models, images)
    paths = tuple(f"{i:02}" for i in range(images))
    frame = rank_by_difficulty(Pool(Path(), tuple(f"{i}" for i in range(models)), paths, correct, losses))
    assert frame["n_correct"].is_monotonic_decreasing
    assert sorted(frame["path"]) == list(paths)
    assert frame["rank_average"].sum() == frame["rank"].sum()


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 2.0, np.nan])), min_size=1, max_size=30))
def test_average_ranks_are_those_of_the_pairs(pairs: list[tuple[int, float]]) -> None:
    n_correct, losses = (np.array(side) for side in zip(*pairs, strict=True))
    keys = [(-right, np.nan_to_num(loss)) for right, loss in pairs]
    expected = [sum(other < key for other in keys) + (keys.count(key) + 1) / 2 for key in keys]
    assert average_ranks(n_correct, losses.astype(float)).tolist() == expected
