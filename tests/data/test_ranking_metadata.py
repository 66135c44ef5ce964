import hashlib
import json
from pathlib import Path

import pytest

from lightning_app.data.ranking_metadata import read_ranking_metadata

FOUND = {"models": ["a", "b"], "without": ["c"], "reliability": {"reliability": 0.8, "ceiling": 0.9}}


def write(*rankings: bytes) -> None:
    """What `rank` leaves: a table and a line, and what it says of them."""
    for name, data in zip(("ranking.csv", "ranking_line.csv"), rankings, strict=True):
        Path(name).write_bytes(data)
    digests = [hashlib.sha256(data).hexdigest() for data in rankings]
    Path("ranking.json").write_text(json.dumps({**FOUND, "sha256": digests}))


@pytest.mark.parametrize(
    ("model", "row", "is_in_it"),
    [
        ("a", None, True),
        ("local-dir:models/b", None, True),
        ("c", None, False),
        ("published.name", None, None),  # the pool may have another name for it
        ("published.name", "b", True),
        ("published.name", "c", False),
        ("a", "elsewhere", None),
    ],
)
def test_whether_a_model_is_in_its_own_ranking(model: str, row: str | None, is_in_it: bool | None) -> None:
    write(b"a.jpg", b"a.jpg\n")
    for name in ("ranking.csv", "ranking_line.csv"):
        assert read_ranking_metadata(Path(name), model, row) == {
            "models": ["a", "b"], "model_is_in_it": is_in_it, "reliability": 0.8, "ceiling": 0.9
        }  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"models": null}', '{"models": 3, "without": [], "reliability": {}}', "\x00"]
)
def test_a_ranking_of_anybody_else_says_nothing(text: str) -> None:
    assert read_ranking_metadata(Path("ranking.csv"), "a") is None
    Path("ranking.json").write_text(text)
    assert read_ranking_metadata(Path("ranking.csv"), "a") is None


def test_what_is_said_of_another_ranking_is_not_said_of_this_one() -> None:
    write(b"a.jpg", b"a.jpg\n")
    Path("ranking.csv").write_bytes(b"b.jpg")  # `rank` was killed right after the table
    assert read_ranking_metadata(Path("ranking.csv"), "a") is None
    assert read_ranking_metadata(Path("ranking_line.csv"), "a") is not None
