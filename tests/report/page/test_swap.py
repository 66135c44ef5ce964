"""What ends a swap at any line leaves a whole page, and the next one leaves no litter."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_app.errors import BadInputError, StorageError
from lightning_app.report.page import swap
from lightning_app.report.page.swap import GENERATOR, PAGE, replace_page
from lightning_app.report.page.writing import write_page
from tests.report.page.making import frame, study

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

    def traced() -> None:
        sys.settrace(trace)
        with contextlib.suppress(error, StorageError, BadInputError):
            act()

    # In a thread of its own: an error raised by a tracer in an `except` stays the thread's current one for ever.
    thread = threading.Thread(target=traced)
    thread.start()
    thread.join()
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
        patch.setattr(shutil, "rmtree", fail)
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


VICTIM = "victim"
LINKS = (*(f"{up}/{VICTIM}" for up in ("..", "../..", "../../..")), f"../{VICTIM}/x", "nowhere", ".", "..", "a0")
LISTED = (
    "a0/precious.txt", "data.js", "sub/data.js", "sub", "data.js/x", "thumbnails/0.png", "curves/0-0.js", "page.json",
    f"../{VICTIM}/precious.txt", f"../../{VICTIM}/precious.txt", "/VICTIM/precious.txt", "", ".", "..", "./", "nul\0",
    "x" * 5_000, "a/" * 3_000 + "x",
)  # fmt: skip
ODD_LISTS = (b"", b"null", b"[" * 100_000, b'{"files": {}}', b'{"files": [1, null]}', b'{"files": "a0"}', b"\xff{}",
             b"9" * 10_000, b'{"files": ["\\ud800"]}')  # fmt: skip

Thing = bytes | str | Mapping[str, Any] | None
"""A file's content, what a link leads to, a folder's content, or a pipe."""

lists = st.lists(st.sampled_from(LISTED), max_size=6).map(lambda names: json.dumps({"files": names}).encode())
PAGES = GENERATOR.encode()
files = st.sampled_from([b"a page's", PAGES, b"x" * 2_000])
theirs = st.just(b"theirs")
links = st.sampled_from(LINKS)


def folders(content: st.SearchStrategy[Thing]) -> st.SearchStrategy[Thing]:
    names = dict.fromkeys(("a0", "data.js", "sub", "thumbnails", "curves", "survival.png", "new\nline"), content)
    return st.fixed_dictionaries({}, optional={**names, "mine.txt": theirs, "mine": st.just({"deep": b"theirs"})})


inner: st.SearchStrategy[Thing] = st.one_of(files, links, st.none(), folders(st.one_of(files, links)))
pages = st.tuples(folders(inner), lists).map(lambda both: {**both[0], "page.json": both[1]})  # type: ignore[dict-item]
odd = st.one_of(
    files, links, st.none(), folders(inner),
    st.one_of(st.sampled_from(ODD_LISTS), links, st.none()).map(lambda content: {"page.json": content}),
)  # fmt: skip
mostly = st.integers(0, 9)


def part(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Thing]:
    """Mostly as it would be, so that what comes later is reached too."""
    return mostly.flatmap(lambda number: usual if number else odd)


mailed = st.fixed_dictionaries(
    {"report": part(pages)},
    optional={
        ".report.old": part(pages), ".report.writing": part(folders(inner)), "report.html": part(st.just(PAGES)),
        ".report.html.writing": part(files), "thesis.tex": theirs,
    },
)  # fmt: skip


def _make(place: Path, thing: Thing) -> None:
    if thing is None:
        os.mkfifo(place)
    elif isinstance(thing, bytes):
        place.write_bytes(thing.replace(b"VICTIM", os.fsencode(place.parents[1] / VICTIM)))
    elif isinstance(thing, str):
        place.symlink_to(thing)
    else:
        place.mkdir()
        for name, content in thing.items():
            _make(place / name, content)


def _look(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")
    }


def _theirs(folder: Path) -> int:
    """How many files of the user there are; what a page was being written to is nobody's."""
    found = {path for path in folder.rglob("*") if not path.is_symlink() and path.is_file()}
    return sum(path.read_bytes() == b"theirs" for path in found - {*(folder / ".report.writing").rglob("*")})


@given(mailed)
def test_whatever_lies_in_the_folder_nothing_outside_is_touched(content: Mapping[str, Thing]) -> None:
    with tempfile.TemporaryDirectory() as top:
        victim, out = Path(top) / VICTIM, Path(top) / "out"
        _make(victim, {"precious.txt": b"precious", "page.json": b'{"files": ["precious.txt"]}', "sub": {"x": b"x"}})
        _make(out, content)
        before, user_files = _look(victim), _theirs(out)
        refused = ""
        try:
            write_page(out, "A page", [], (), [], [study(frame(2))], False)
        except BadInputError as error:
            refused = str(error)
        if refused:
            assert str(out) in refused
            assert len(refused.splitlines()) == 1
        else:
            assert b"A page" in (out / PAGE).read_bytes()
        assert _look(victim) == before
        assert _theirs(out) == user_files


def test_a_list_reaches_nothing_through_a_link(tmp_path: Path) -> None:
    out, victim = tmp_path / "out", tmp_path / VICTIM
    _make(victim, {"precious.txt": b"precious"})
    _make(out, {"report": {"a0": f"../../{VICTIM}", "page.json": b'{"files": ["a0/precious.txt"]}'}})
    for _ in range(2):
        _write(out, "new")
        assert _is(out, "new")
        assert (victim / "precious.txt").read_bytes() == b"precious"
        assert (out / "report" / "a0").is_symlink()  # the user's own, since no page has made it


@pytest.mark.parametrize("part", ["report", ".report.old", ".report.writing"])
def test_folders_in_folders(tmp_path: Path, part: str) -> None:
    deep = "deep/" * 2_000
    listed = json.dumps({"files": [f"{deep}x"]}).encode()
    _make(tmp_path / "out", {part: {"page.json": listed}})
    os.chdir(tmp_path / "out" / part)
    for _ in range(2_000):
        Path("deep").mkdir()
        os.chdir("deep")
    os.chdir(tmp_path)
    try:
        _write(tmp_path / "out", "new")
    except BadInputError as error:  # by a Python that can't delete it
        refused = str(error)
        assert part == ".report.writing"
        assert ".report.writing, left by an earlier report, can't be cleared away: " in refused
    else:
        assert _is(tmp_path / "out", "new")
        assert (tmp_path / "out" / "report" / "deep").is_dir() == (part != ".report.writing")
    subprocess.run(["rm", "-r", str(tmp_path / "out")], check=True)  # what Python can't
