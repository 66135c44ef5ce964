import json
import math
from pathlib import Path

import pytest

from lightning_app.errors import StorageError
from lightning_app.whole_files import json_text, write_whole


def test_json_has_null_for_what_is_not_finite() -> None:
    content = {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf, "p": Path("x")}}
    assert json.loads(json_text(content)) == {"a": [None, [None, 1.5]], "b": {"c": None, "p": "x"}}


def test_a_file_is_replaced_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("table.csv")
    write_whole(file, b"old")
    write_whole(file, b"new")
    assert file.read_bytes() == b"new"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"table.csv can't be written: No space left on device"):
        write_whole(file, b"newer")
    assert [f.name for f in Path().iterdir()] == ["table.csv"]
    assert file.read_bytes() == b"new"
