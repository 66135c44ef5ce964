"""What ends a swap at any line leaves a whole page, and the next one leaves no litter."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from lightning_app.errors import BadInputError, StorageError
from lightning_app.page import swap
from lightning_app.page.swap import GENERATOR, PAGE, replace_page

WHOLE = ["report", PAGE]


def _write(folder: Path, name: str) -> None:
    def fill(writing: Path) -> str:
        (writing / "sub").mkdir()
        (writing / "sub" / f"{name}.js").write_text(name)
        (writing / "data.js").write_text(name)
        return f"{GENERATOR}{name}"

    replace_page(folder, fill)


def _is(folder: Path, name: str) -> bool:
    """Whether the page is the named one, whole."""
    return (
        (folder / PAGE).is_file()
        and (folder / PAGE).read_text() == f"{GENERATOR}{name}"
        and (folder / "report" / "data.js").read_text() == name
        and (folder / "report" / "sub" / f"{name}.js").read_text() == name
        and (folder / "report" / "page.json").is_file()
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _ended_at(line: int, act: Callable[[], None], error: type[BaseException]) -> bool:
    """Raises an error at a line of the swap; whether there was one to raise it at."""
    passed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal passed
        if frame.f_code.co_filename != swap.__file__ or frame.f_code.co_name == "locked":  # ends with its process
            return None
        if event == "line":
            passed += 1
            if passed == line:
                sys.settrace(None)
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except (error, StorageError, BadInputError):
        pass
    finally:
        sys.settrace(before)
    return passed >= line


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("older", [True, False])
def test_ended_at_any_line(out: Path, error: type[BaseException], older: bool) -> None:
    line, ends = 1, set()
    while True:
        folder = out / str(line)
        folder.mkdir()
        if older:
            _write(folder, "old")
            (folder / "report" / "notes.txt").write_text("theirs")
        go_on = _ended_at(line, lambda: _write(folder, "new"), error)  # noqa: B023
        old_one = _is(folder, "old") if older else not (folder / PAGE).exists()
        assert old_one or _is(folder, "new"), (line, _names(folder))
        ends.add("old" if old_one else "new")
        _write(folder, "next")
        assert _is(folder, "next"), line
        assert _names(folder) == WHOLE, line
        assert _names(folder / "report") == ["data.js", *(["notes.txt"] if older else []), "page.json", "sub"], line
        if not go_on:
            break
        line += 1
    assert line > 50
    assert ends == {"old", "new"}


@pytest.mark.parametrize("renames", [0, 1, 2, 3])
@pytest.mark.parametrize("older", [True, False])
def test_killed_between_the_renames(out: Path, monkeypatch: pytest.MonkeyPatch, renames: int, older: bool) -> None:
    """As by SIGKILL: nothing is taken back, not even by what would run at the end."""
    if older:
        _write(out, "old")
        (out / "report" / "notes.txt").write_text("theirs")
    rename, settle, done, settled = Path.rename, swap._settle, 0, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal done
        if done == renames:
            raise KeyboardInterrupt
        done += 1
        return rename(self, target)

    def first(folder: Path) -> None:
        nonlocal settled
        settled += 1
        if settled == 1:
            settle(folder)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", counted)
        patch.setattr(swap, "_settle", first)
        if renames < 2 + older:
            with pytest.raises(KeyboardInterrupt):
                _write(out, "new")
        else:
            _write(out, "new")
    swap._settle(out)
    if renames >= 2 + older:
        assert _is(out, "new")
    elif older:
        assert _is(out, "old")
    else:
        assert _names(out) == []
    _write(out, "next")
    assert _is(out, "next")
    assert _names(out) == WHOLE
    assert not older or (out / "report" / "notes.txt").read_text() == "theirs"


def test_what_cannot_be_cleared_away_is_no_error(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(out, "old")

    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(swap, "_delete_listed", fail)
        _write(out, "new")
        assert _is(out, "new")
    _write(out, "next")
    assert _names(out) == WHOLE


def test_an_older_page_left_aside_is_taken_back(out: Path) -> None:
    _write(out, "old")
    (out / "report").rename(out / ".report.old")

    def fail(writing: Path) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_page(out, fail)
    assert _is(out, "old")
    assert _names(out) == WHOLE
