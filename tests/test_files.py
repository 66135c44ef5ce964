"""Files: whole or not at all when written; regular, of a possible size and an expected form when read."""

import contextlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_app.errors import StorageError
from lightning_app.files import (
    MAX_DEPTH,
    MAX_YAML_BYTES,
    MAX_YAML_VALUES,
    OutsideError,
    json_as,
    json_text,
    read_regular,
    refuse_links,
    write_atomic,
    yaml_as,
)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"0123456789")
    assert read_regular(file) == read_regular(file, limit=10) == b"0123456789"
    with pytest.raises(OutsideError, match="more than the 9 bytes"):
        read_regular(file, limit=9)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "no")


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "itself").symlink_to("itself")
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(2**40)
    for name, what in {"pipe": "a pipe", "folder": "a folder", "endless": "a device", "huge": "more than"}.items():
        with pytest.raises(OutsideError, match=what):
            read_regular(tmp_path / name)
    assert read_regular(tmp_path / "link") == b"x"
    for name in ("link", "endless", "itself"):
        with pytest.raises(OutsideError, match="it is a link"):
            read_regular(tmp_path / name, links=False)
    with pytest.raises(OSError, match="itself"):
        read_regular(tmp_path / "itself")


def test_links_are_found_however_deep(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "users").symlink_to("/")
    refuse_links(tmp_path, ("a", "not there"))
    (tmp_path / "a" / "b" / "c").symlink_to("/")
    with pytest.raises(OutsideError, match="a/b/c is a link"):
        refuse_links(tmp_path, ("a",))
    (tmp_path / "a" / "b" / "c").unlink()
    os.mkfifo(tmp_path / "a" / "b" / "c")
    for name in ("a", "a/b", "a/b/c"):
        with pytest.raises(OutsideError, match="a/b/c is a pipe"):
            refuse_links(tmp_path, (name,))


@dataclass(frozen=True)
class Form:
    """A form for JSON."""

    name: str
    count: int = 0
    more: dict[str, object] | None = None


def test_json_has_the_form_that_was_asked_for() -> None:
    assert json_as(Form, '{"name": "x", "count": 2, "other": [1]}') == Form("x", 2)
    assert json_as(dict[str, int], b'{"a": 1}') == {"a": 1}
    assert yaml_as(Form, "name: x\nmore: {a: [1, 2.5, null]}") == Form("x", 0, {"a": [1, 2.5, None]})
    assert math.isnan(json_as(dict[str, float], '{"a": NaN}')["a"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it is not JSON"),
        ("[]", "it has another form: Expected `object`, got `array`"),
        ('{"name": 1}', r"Expected `str`, got `int` - at `\$.name`"),
        ('{"count": 1}', "missing required field `name`"),
        ('{"name": "x", "count": true}', "Expected `int`, got `bool`"),
        ("[" * 100_000, "nested too deeply"),
        ('{"name": "x", "more": {"a": ' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}}", "nested too deeply"),
        ('{"name": "x", "count": 1' + "0" * 5000 + "}", "has more than 18 digits"),
        ('{"name": "\\ud800"}', "half of a surrogate pair"),
    ],
)
def test_json_of_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(OutsideError, match=message):
        json_as(Form, text)


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    return "\n".join(lines + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(12), f"more than {MAX_YAML_VALUES:,} values, its aliases written out"),
        ("a: &a [*a]", "leads back to itself"),
        ("a: *b", "leads to nothing"),
        ("[" * 1000, "nested too deeply"),
        ("- " * 1000, "nested too deeply"),
        ("a: 1" + "0" * 5000, "has more than 18 digits"),
        ("a: 1" + ":0" * 5000, "has more than 18 digits"),
        ("a: " + "x" * MAX_YAML_BYTES, "more than the"),
        ("a: [", "it is not YAML"),
        ("a: !!python/object/apply:os.system [echo]", "it is not YAML: could not determine a constructor"),
        ('a: "\\ud800"', "half of a surrogate pair"),
        ("1: a", "Expected `str`"),
    ],
)
def test_yaml_that_grows_or_has_another_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(OutsideError, match=message):
        yaml_as(dict[str, object], text)


def test_a_few_aliases_are_what_a_config_may_have() -> None:
    assert yaml_as(dict[str, object], "a: &a [1]\nb: *a\nc: {d: *a}\n") == {"a": [1], "b": [1], "c": {"d": [1]}}
    assert yaml_as(object, bomb(4)) is not None


@given(st.binary() | st.text().map(str.encode) | st.text("[]{}&*:- \n\"'ax1").map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read_as in (json_as, yaml_as):
        with contextlib.suppress(OutsideError):
            read_as(object, data)


def test_json_has_null_for_what_is_not_finite() -> None:
    content = {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf, "p": Path("x")}}
    assert json.loads(json_text(content)) == {"a": [None, [None, 1.5]], "b": {"c": None, "p": "x"}}


def test_a_file_is_replaced_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path("table.csv")
    write_atomic(file, b"old")
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match=r"table.csv can't be written: No space left on device"):
        write_atomic(file, b"newer")
    assert [f.name for f in Path().iterdir()] == ["table.csv"]
    assert file.read_bytes() == b"new"
