import errno
import fcntl
import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lightning_app.errors import BadInputError, StorageError
from lightning_app.report import page
from lightning_app.report.curves import kept_steps, thinned
from lightning_app.report.page import GENERATOR, PAGE, Picture, StudyOnPage, Table, require_free, write_page
from tests.report.making import CLASSES, HOSTILE, TABLES, frame, losses, picture, study

EVIL = "</title><script>alert(1)</script>\" onerror='x' <!-- $tables ${pictures} $data"


class _Scripts(HTMLParser):
    """The scripts of a page as a browser finds them; those without a name are run."""

    def __init__(self) -> None:
        super().__init__()
        self.named: dict[str, str] = {}
        self.run: list[str] = []
        self._open: str | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self._open, self._text = dict(attrs).get("id") or "", ""

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._open is not None:
            self.run += [self._text] if not self._open else []
            self.named |= {self._open: self._text} if self._open else {}
            self._open = None


def _write(
    studies: list[StudyOnPage], title: str = "A page", tables: tuple[Table, ...] = TABLES, all_thumbnails: bool = False
) -> str:
    images = Path("images")
    write_page(Path("out"), title, ["Words."], tables, [picture(images)], studies, all_thumbnails)
    return Path("out", PAGE).read_text()


def _scripts(html: str) -> _Scripts:
    scripts = _Scripts()
    scripts.feed(html)
    return scripts


def _study(html: str, number: int = 0) -> dict[str, Any]:
    found = json.loads(_scripts(html).named["studies"])[number]
    return {**found["texts"], **found["numbers"]}


@pytest.fixture
def out(in_a_folder_of_its_own: Path) -> Path:
    folder = in_a_folder_of_its_own / "out"
    folder.mkdir()
    (in_a_folder_of_its_own / "images").mkdir()
    return folder


def test_the_page_is_one_file_with_everything_inside(out: Path) -> None:
    html = _write([study(frame(250), Path("images"), "one"), study(frame(5), Path("images"), "two")])
    assert [path.name for path in out.iterdir()] == [PAGE]
    assert html.encode().index(GENERATOR) < 200
    assert html.index("<h1>A page</h1>") < html.index("Correlation") < html.index('id="scatter"')
    assert html.index('id="scatter"') < html.index('id="card"') < html.index('id="examples"') < html.index("Survival")
    scripts = _scripts(html)
    assert list(scripts.named) == ["thumbnails", "studies", "curves-0", "curves-1"]
    beginning = html[: html.index('<script type="text/plain"')]
    assert "//" not in re.sub(r'"data:[^"]*"|</', "", beginning)  # nothing from anywhere else
    assert "default-src 'none'" in html
    assert "base-uri 'none'; form-action 'none'" in html
    (shown,) = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="Survival', html)
    assert b64decode(shown) == picture(Path("images")).data


def test_only_the_pages_own_scripts_may_run(out: Path) -> None:
    html = _write([study(frame(12), name=EVIL)], EVIL)
    scripts = _scripts(html)
    assert len(scripts.run) == 2
    hashes = " ".join(f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts.run)
    assert f"script-src {hashes} 'unsafe-eval';" in html


def test_every_text_is_escaped_and_no_placeholder(out: Path) -> None:
    evil = Table(EVIL, (EVIL, EVIL), ((EVIL, EVIL),), (EVIL,))
    write_page(out, EVIL, [EVIL], [evil], [Picture("a b.png", b"", EVIL)], [study(frame(12), name=EVIL)], False)
    html = (out / PAGE).read_text()
    beginning = html[: html.index('<script type="text/plain"')]
    assert "<script" not in beginning
    assert beginning.count("alert(1)") == 12
    assert beginning.count("onerror=&#x27;x&#x27; &lt;!-- $tables ${pictures} $data") == 12
    found = _scripts(html).named
    assert not {"<", ">", "&"} & set("".join(found.values()))
    assert "".join(found.values()).isascii()
    assert _study(html)["name"] == EVIL


def test_columns_of_numbers_are_aligned_as_such(out: Path) -> None:
    table = Table("t", ("a", "b", "c"), (("1", "0.5", "x"), ("2", "< 0.1", "2"), ("3", "-", "")))
    html = _write([], tables=(table,))
    assert html.count('<td class="number">') == 3
    assert '<th scope="col" class="number">b</th>' in html


def test_what_is_empty_has_no_heading(out: Path) -> None:
    write_page(out, "", [], [], [], [], False)
    html = (out / PAGE).read_text()
    assert "<h2>Statistics" not in html
    assert "<h2>Pictures" not in html


def test_hostile_text_comes_back(out: Path) -> None:
    found = _study(_write([study(frame(11))]))
    assert found["path"] == list(HOSTILE)
    assert found["classes"] == {str(index): name for index, name in CLASSES.items()}


def test_numbers_are_unrounded_and_what_is_unknown_is_null(out: Path) -> None:
    examples = frame(10)
    examples["label"] = pd.array([None, *range(9)], dtype="Int64")
    examples.loc[0, "initial_loss"] = math.nan
    examples.loc[1, "initial_loss"] = math.inf
    examples["universal_difficulty_rank"] = examples["universal_difficulty_rank"] + 0.5
    html = _write([study(examples.drop(columns="final_loss"))])
    found = _study(html)
    assert found["label"] == [None, *range(9)]
    assert found["initial"][0] is None
    assert found["initial"][1:] == examples["initial_loss"].tolist()[1:]
    assert "Infinity" not in _scripts(html).named["studies"]  # which is not JSON
    assert found["final"] == [None] * 10
    assert found["rank"] == examples["universal_difficulty_rank"].tolist()
    assert found["steps"] == [*examples["steps"].astype(int).tolist()[:9], None]
    assert found["thumbnail"] == [None] * 10
    assert set(found["classes"]) == {"0", "1", "2"}


def test_what_was_reached_beyond_the_limit_in_force_is_censored(out: Path) -> None:
    examples = frame(10).assign(outcome=["reached"] * 9 + ["diverged"])
    examples["not_reached"] = pd.array([False] * 7 + [True] * 3, dtype="boolean")
    found = _study(_write([study(examples)]))
    assert found["outcome"] == [*["reached"] * 7, *["censored"] * 2, "diverged"]
    assert found["steps"][7:] == [None] * 3


def test_a_curve_a_line_and_null_for_a_missing_log(out: Path) -> None:
    bare = StudyOnPage("second", frame(3), math.nan, 50, (), None, lambda place: None, {})
    html = _write([study(frame(100), limit=30), bare])
    named = _scripts(html).named
    assert "curves-1" not in named
    curves = [json.loads(line) for line in named["curves-0"].splitlines()]
    assert len(curves) == 100
    assert curves[6] is None
    assert curves[95] == thinned(losses(95)[:30], kept_steps(30))  # no more is shown than is counted
    assert curves[95][0] == 30
    assert [_study(html, number)["curveSteps"] for number in range(2)] == [kept_steps(30), None]


def test_studies_of_the_same_images_share_their_thumbnails(out: Path) -> None:
    Path("images/4.png").write_text("no image")
    html = _write([study(frame(250), Path("images"), "one"), study(frame(5), Path("images"), "two")])
    lines = _scripts(html).named["thumbnails"].splitlines()
    assert len(lines) == 125
    assert [number for number, line in enumerate(lines) if not line] == [2]
    assert _study(html)["thumbnail"][:5] == _study(html, 1)["thumbnail"] == [0, None, 1, None, 2]
    kind, data = lines[1].split(",")
    assert kind == "data:image/png;base64"
    assert Image.open(io.BytesIO(b64decode(data))).getpixel((0, 0)) == (2, 80, 120)


def test_an_older_page_is_replaced_and_the_same_content_gives_the_same_bytes(out: Path) -> None:
    first = _write([study(frame(25), Path("images"))])
    assert _write([study(frame(25), Path("images"))]) == first
    assert "<h1>Another</h1>" in _write([study(frame(5))], "Another")


@pytest.mark.parametrize("where", ["_study_data", "_plotly", "thumbnail", "thinned", "_table"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_older_page(
    out: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    before = _write([study(frame(5), Path("images"))])

    def fail(*args: object) -> None:
        raise error

    if where == "thinned":  # an OSError there is a missing log
        error = error if isinstance(error, KeyboardInterrupt) else ZeroDivisionError()
    monkeypatch.setattr(page, where, fail)
    with pytest.raises((OSError, StorageError, KeyboardInterrupt, ZeroDivisionError)):
        _write([study(frame(20), Path("images"))], "Another")
    assert [path.name for path in out.iterdir()] == [PAGE]
    assert (out / PAGE).read_text() == before


@pytest.mark.parametrize("older", [True, False])
def test_a_full_disk_is_named_and_the_older_page_is_as_it_was(
    out: Path, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    before = {PAGE: _write([study(frame(5))])} if older else {}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"report\.html can't be written: No space left on device"):
        _write([study(frame(6))], "Another")
    assert {path.name: path.read_text() for path in out.iterdir()} == before


@pytest.mark.parametrize("kind", ["file", "late", "folder", "link", "link to a page", "pipe"])
def test_a_page_of_somebody_else_is_not_touched(out: Path, kind: str) -> None:
    if kind == "folder":
        (out / PAGE).mkdir()
    elif kind == "pipe":
        os.mkfifo(out / PAGE)
    elif kind.startswith("link"):
        Path("elsewhere.html").write_bytes(GENERATOR if kind == "link to a page" else b"theirs")
        (out / PAGE).symlink_to(Path("elsewhere.html").resolve())
    else:
        (out / PAGE).write_bytes(b"<title>Mine</title>" + b" " * 2000 * (kind == "late") + GENERATOR * (kind == "late"))
    before = (out / PAGE).lstat()
    with pytest.raises(BadInputError, match=r"out/report\.html is not a page of this program; move it"):
        require_free(out)
    with pytest.raises(BadInputError, match=r"out/report\.html is not a page"):
        _write([study(frame(5))])
    assert (out / PAGE).lstat() == before
    assert [path.name for path in out.iterdir()] == [PAGE]


def test_a_free_folder_is_not_refused(out: Path) -> None:
    require_free(out / "missing")
    require_free(out)
    _write([study(frame(5))])
    require_free(out)


def test_what_a_killed_run_left_is_no_obstacle(out: Path) -> None:
    (out / ".report.html.writing").write_text("half" * 10_000_000)
    assert _write([study(frame(5))]).endswith("</html>\n")
    assert [path.name for path in out.iterdir()] == [PAGE]


def test_two_at_once_are_refused(out: Path) -> None:
    other = os.open(out, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(BadInputError, match=r"out/report\.html: another process is writing it"):
        _write([study(frame(5))])
    os.close(other)
    assert list(out.iterdir()) == []
    _write([study(frame(5))])


def test_what_is_in_the_way_of_the_writing_is_refused_before_any_work(out: Path) -> None:
    (out / ".report.html.writing").symlink_to(Path("precious").resolve())
    with pytest.raises(BadInputError, match=r"out/\.report\.html\.writing is not a page of this program; move it"):
        require_free(out)
    assert not Path("precious").exists()


def test_the_folder_of_an_earlier_versions_page_is_named_and_left(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    (out / PAGE).write_bytes(b"<!doctype html>" + GENERATOR)
    (out / "report").mkdir()
    (out / "report/notes.txt").write_text("theirs")
    _write([study(frame(5))])
    assert caplog.text == ""  # it may be anyone's
    (out / "report/page.json").write_text('{"files": []}')
    _write([study(frame(5))])
    assert "out/report is of an earlier version's page; report.html doesn't need it" in caplog.text
    assert sorted(path.name for path in out.rglob("*")) == ["notes.txt", "page.json", "report", PAGE]


PLACES = (PAGE, f".{PAGE}.writing", "report", "report/page.json")
things = st.sampled_from([b"theirs", GENERATOR, "../victim/precious.html", "../victim", "nowhere", ".", "", None])


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(PLACES, things)))
def test_whatever_lies_in_the_folder_nothing_outside_is_touched(content: Mapping[str, bytes | str | None]) -> None:
    """A file's content, what a link leads to, an empty folder or a pipe under each name."""
    with tempfile.TemporaryDirectory() as top:
        victim, out = Path(top) / "victim", Path(top) / "out"
        victim.mkdir()
        out.mkdir()
        (victim / "precious.html").write_bytes(GENERATOR)
        if "report/page.json" in content:
            (out / "report").mkdir()
        for name, thing in content.items():
            place = out / name
            if os.path.lexists(place):
                continue
            if thing is None:
                os.mkfifo(place)
            elif isinstance(thing, bytes):
                place.write_bytes(thing)
            elif thing:
                place.symlink_to(thing)
            else:
                place.mkdir()
        try:
            write_page(out, "A page", [], (), [], [study(frame(2))], False)
            refused = ""
        except (BadInputError, StorageError) as error:
            refused = str(error)
        if refused:
            assert str(out) in refused
            assert len(refused.splitlines()) == 1
        else:
            assert b"A page" in (out / PAGE).read_bytes()
        assert [(path.name, path.read_bytes()) for path in victim.iterdir()] == [("precious.html", GENERATOR)]
        if content.get(PAGE) == b"theirs":
            assert (out / PAGE).read_bytes() == b"theirs"


def test_without_the_folder_the_error_names_it() -> None:
    with pytest.raises(StorageError, match=r"out/report\.html can't be written: No such file"):
        write_page(Path("out"), "", [], [], [], [], False)


def test_without_plotly_it_is_said(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match="pip install plotly"):
        _write([study(frame(5))])
    assert list(out.iterdir()) == []


def test_torch_and_plotly_are_not_imported() -> None:
    code = "import sys, lightning_app.report.page; sys.exit(bool({'torch', 'plotly'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
