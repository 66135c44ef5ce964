import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_app.errors import BadInputError
from lightning_app.store.predictions import PredictionCache, copy_predictions

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_they_are_kept_by_path_label_and_identity(tmp_path: Path) -> None:
    asked = PredictionCache(tmp_path / "new", {"weights": "x"})
    asked.put('a,"b"\n.jpg', 3, (True, 3))
    asked.put("c.jpg", 0, (False, 2))
    asked.close()
    with asked.file.open("a") as stream:
        stream.write('{"path":"d.jpg","label":0,')  # a kill in the middle of a line
    again = PredictionCache(tmp_path / "new", {"weights": "x"})
    assert again.get('a,"b"\n.jpg', 3) == (True, 3)
    assert again.get("c.jpg", 0) == (False, 2)
    assert again.get("d.jpg", 0) is None
    assert again.get("c.jpg", 1) is None
    again.put("d.jpg", 0, (True, 0))
    again.close()
    assert PredictionCache(tmp_path / "new", {"weights": "x"}).get("d.jpg", 0) == (True, 0)
    assert PredictionCache(tmp_path / "new", {"weights": "y"}).get("c.jpg", 0) is None


@given(st.lists(st.tuples(TEXT, st.integers(0, 9), st.tuples(st.booleans(), st.integers(0, 9)))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_they_read_back(tmp_path: Path, given: list[tuple[str, int, tuple[bool, int]]]) -> None:
    asked = PredictionCache(tmp_path, {"weights": "x"})
    asked.file.unlink(missing_ok=True)
    asked = PredictionCache(tmp_path, {"weights": "x"})
    for path, label, answer in given:
        asked.put(path, label, answer)
    asked.close()
    expected = {(path, label): answer for path, label, answer in given}
    again = PredictionCache(tmp_path, {"weights": "x"})
    assert {key: again.get(*key) for key in expected} == expected


@pytest.mark.parametrize("content", ["{}\n", "[\n", '{"path":"a","label":"x","correct":true,"predicted":1}\n'])
def test_a_line_that_is_none_is_an_error_with_its_number(tmp_path: Path, content: str) -> None:
    file = PredictionCache(tmp_path, {"weights": "x"}).file
    file.write_text('{"path":"a","label":0,"correct":true,"predicted":1}\n' + content)
    with pytest.raises(BadInputError, match=r"predictions-\w+\.jsonl, line 2 can't be read: .*Without that file"):
        PredictionCache(tmp_path, {"weights": "x"})


def test_they_are_taken_along_and_what_can_be_none_is_not(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "predictions-a.jsonl").write_text("{}\n")
    os.mkfifo(tmp_path / "from" / "predictions-b.jsonl")
    (tmp_path / "from" / "predictions-c.jsonl").symlink_to("predictions-a.jsonl")
    copy_predictions(tmp_path / "from", tmp_path / "to")
    assert [file.name for file in (tmp_path / "to").iterdir()] == ["predictions-a.jsonl"]
