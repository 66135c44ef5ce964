from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_app.inputs.correctness import read_model_row
from lightning_app.inputs.ranking import read_ranking
from lightning_app.pool.evaluating import Member, best_first, evaluate, write_matrix
from lightning_app.settings import StudySettings
from lightning_app.training.photograph import read_photograph
from lightning_app.training.pretrained import load_pretrained
from tests import oracle


def test_a_models_answers_are_the_plain_loops(tiny_model: str, photographs: Path) -> None:
    files = sorted(photographs.glob("*/*.jpg"))
    labels = [i // 10 for i in range(40)]
    pretrained = load_pretrained(tiny_model)
    done: list[int] = []
    member = evaluate("tiny", pretrained, files, labels, done.append)
    assert sum(done) == 40
    assert member.correct.tolist() == [not oracle.wrong(tiny_model, f, y) for f, y in zip(files, labels, strict=True)]
    assert 0 < member.correct.sum() < 40
    assert member.accuracy == member.correct.sum() / 40
    with torch.no_grad():
        logits = pretrained.network(torch.stack([pretrained.transform(read_photograph(file)) for file in files]))
    expected = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(labels), reduction="none")
    assert member.losses == pytest.approx(expected.numpy(), rel=1e-5)


def test_the_study_reads_the_matrix_back() -> None:
    rows = {"even": [1, 0, 1, 0], "also": [0, 1, 1, 0], "best": [1, 1, 1, 0]}
    members = [Member(name, np.array(row, dtype=np.uint8), np.zeros(4)) for name, row in rows.items()]
    assert [member.name for member in best_first(members)] == ["best", "also", "even"]
    paths = ["a/1.png", "a/2, odd.png", "b/1.png", "b/2.png"]
    write_matrix(Path(), paths, best_first(members))
    assert np.load("correctness.npy").dtype == np.uint8
    settings = StudySettings(
        examples_csv=Path("examples.csv"), correctness_npy=Path("correctness.npy"),
        imagenet_models_csv=Path("models.csv"), model_csv_name="also",
    )  # fmt: skip
    row = read_model_row(settings, read_ranking(Path("examples.csv")))
    assert row is not None
    assert (row.row, row.correct) == (1, dict(zip(paths, [False, True, True, False], strict=True)))
