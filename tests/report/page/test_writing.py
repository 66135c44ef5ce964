import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_app.errors import BadInputError, StorageError
from lightning_app.report.page import swap, writing
from lightning_app.report.page.content import StudyOnPage
from lightning_app.report.page.writing import require_free, write_page
from tests.report.page.making import TABLES, frame, picture, study


def _write(studies: list[StudyOnPage], title: str = "A page", all_thumbnails: bool = False) -> None:
    images = Path("images")
    images.mkdir(exist_ok=True)
    write_page(Path("out"), title, ["Words."], TABLES, [picture(images)], studies, all_thumbnails)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.fixture
def out(in_a_folder_of_its_own: Path) -> Path:
    folder = in_a_folder_of_its_own / "out"
    folder.mkdir()
    (in_a_folder_of_its_own / "images").mkdir()
    return folder


def test_the_page_and_its_folder(out: Path) -> None:
    two = [study(frame(250), Path("images"), "one"), study(frame(5), Path("images"), "two")]
    _write(two)
    files = _files(out)
    assert {f for f in files if "thumbnails" not in f} == {
        "report.html", "report/report.js", "report/report.css", "report/examples.js", "report/plotly.min.js",
        "report/survival.png", "report/page.json", "report/study-0.js", "report/study-1.js",
        "report/curves/0-0.js", "report/curves/0-1.js", "report/curves/1-0.js",
    }  # fmt: skip
    assert len([f for f in files if "thumbnails" in f]) == 125  # the images that both studies have are there once
    html = files["report.html"].decode()
    assert html.index("<h1>A page</h1>") < html.index("Correlation") < html.index('id="scatter"')
    assert html.index('id="scatter"') < html.index('id="card"') < html.index('id="examples"') < html.index("Survival")
    assert "//" not in html.replace("</", "").replace("data:,", "")  # nothing from anywhere else
    assert "base-uri 'none'; form-action 'none'" in html
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_an_older_page_is_replaced(out: Path) -> None:
    _write([study(frame(250), Path("images"))])
    _write([study(frame(5), Path("images"))], "Another")
    assert "report/curves/0-1.js" not in _files(out)
    assert b"<h1>Another</h1>" in (out / "report.html").read_bytes()


@pytest.mark.parametrize("where", ["curves_script", "study_script", "study_data", "_copy_plotly", "thumbnail"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_leaves_the_older_page(
    out: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    _write([study(frame(5), Path("images"))])
    before = _files(out)

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(writing, where, fail)
    with pytest.raises((OSError, KeyboardInterrupt)):
        _write([study(frame(20), Path("images"))], "Another")
    assert _files(out) == before
    assert sorted(path.name for path in out.iterdir()) == ["report", "report.html"]


def test_a_failure_without_an_older_page_leaves_nothing(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path.write_bytes

    def write(self: Path, data: bytes) -> int:
        if self.name == "study-0.js":
            raise OSError(28, "No space left on device")
        return full(self, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(StorageError, match=r"study-0\.js can't be written: No space left on device"):
        _write([study(frame(5))])
    assert list(out.iterdir()) == []


def test_what_a_killed_run_left_is_cleared(out: Path) -> None:
    (out / ".report.writing").mkdir()
    (out / ".report.writing" / "half.js").touch()
    (out / ".report.html.writing").touch()
    (out / ".report.old").mkdir()
    _write([study(frame(5))])
    assert sorted(path.name for path in out.iterdir()) == ["report", "report.html"]
    assert not (out / "report" / "half.js").exists()


def test_a_folder_of_somebody_else_is_not_touched(out: Path) -> None:
    (out / "report").mkdir()
    (out / "report" / "thesis.tex").touch()
    with pytest.raises(BadInputError, match=r"report is not the folder of a page"):
        _write([study(frame(5))])
    with pytest.raises(BadInputError, match=r"out/report is not the folder of a page \(no page\.json in it\)"):
        require_free(out)
    assert _files(out) == {"report/thesis.tex": b""}


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_neither_is_a_page_of_somebody_else(out: Path, kind: str) -> None:
    if kind == "folder":
        (out / "report.html").mkdir()
    elif kind == "link":
        (out / "report.html").symlink_to("elsewhere.html")
    else:
        (out / "report.html").write_text("<title>Mine</title>")
    with pytest.raises(BadInputError, match=r"out/report\.html is not a page of this program; move it"):
        require_free(out)
    with pytest.raises(BadInputError, match=r"out/report\.html is not a page"):
        _write([study(frame(5))])
    assert [path.name for path in out.iterdir()] == ["report.html"]


def test_a_free_folder_is_not_refused(out: Path) -> None:
    require_free(out / "missing")
    require_free(out)
    _write([study(frame(5))])
    require_free(out)


def test_files_of_the_user_are_kept(out: Path) -> None:
    _write([study(frame(250), Path("images"))])
    theirs = {"notes.txt": b"1", "thumbnails/mine.png": b"2", "mine/deep/a.txt": b"3", "curves/mine/b": b"4"}
    for name, data in theirs.items():
        (out / "report" / name).parent.mkdir(parents=True, exist_ok=True)
        (out / "report" / name).write_bytes(data)
    (out / "report" / "link").symlink_to(Path("images").resolve())
    for count in (5, 6, 250):
        _write([study(frame(count))])
        files = _files(out / "report")
        assert {name: files[name] for name in theirs} == theirs
        assert (out / "report" / "link").is_symlink()
        assert "thumbnails/0.png" not in files
        assert sorted(path.name for path in out.iterdir()) == ["report", "report.html"]
    assert len(list(Path("images").iterdir())) > 100


@pytest.mark.parametrize("name", ["study-1.js", "thumbnails"])
def test_a_file_of_the_user_in_the_way_is_refused(out: Path, name: str) -> None:
    _write([study(frame(5))])
    (out / "report" / name).write_text("theirs")
    before = _files(out)
    with pytest.raises(BadInputError, match=f"out/report/{name} is in the page's way, but not its own"):
        _write([study(frame(5), Path("images")), study(frame(5), name="second")])
    assert _files(out) == before
    assert sorted(path.name for path in out.iterdir()) == ["report", "report.html"]


def test_a_list_cannot_reach_out_of_its_folder(out: Path) -> None:
    _write([study(frame(5))])
    (out / "data.csv").touch()
    listing = json.loads((out / "report" / "page.json").read_text())
    listing["files"] += ["../data.csv", str(out / "data.csv")]
    (out / "report" / "page.json").write_text(json.dumps(listing))
    _write([study(frame(5))])
    assert (out / "data.csv").exists()


def test_two_at_once_are_refused(out: Path) -> None:
    with swap.locked(out):
        with pytest.raises(BadInputError, match=r"another report is being written to .*out$"):
            require_free(out)
        with pytest.raises(BadInputError, match=r"another report is being written to out$"):
            _write([study(frame(5))])
    assert list(out.iterdir()) == []
    _write([study(frame(5))])


def test_the_same_content_gives_the_same_bytes_and_another_another_token(out: Path) -> None:
    def token() -> str:
        (found,) = re.findall(r'<meta name="token" content="([0-9a-f]{16})">', (out / "report.html").read_text())
        for script in [*(out / "report").glob("study-*.js"), *(out / "report" / "curves").iterdir()]:
            assert f',"{found}",' in script.read_text()[:60]
        return str(found)

    _write([study(frame(5), Path("images"))])
    first, before = token(), _files(out)
    _write([study(frame(5), Path("images"))])
    assert _files(out) == before
    _write([study(frame(5), Path("images"))], "Another")
    second = token()
    _write([study(frame(6), Path("images"))], "Another")
    assert len({first, second, token()}) == 3


def test_neither_is_a_link(out: Path) -> None:
    Path("elsewhere").mkdir()
    (Path("elsewhere") / "page.json").write_text('{"files": []}')
    (out / "report").symlink_to(Path("elsewhere").resolve())
    with pytest.raises(BadInputError, match=r"out/report is not the folder of a page \(it is a link\)"):
        _write([study(frame(5))])
    assert (Path("elsewhere") / "page.json").exists()


def test_without_the_folder_the_error_names_it() -> None:
    with pytest.raises(StorageError, match=r"out can't be written: No such file"):
        _write([study(frame(5))])


def test_without_plotly_it_is_said(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match="pip install plotly"):
        _write([study(frame(5))])


def test_torch_and_plotly_are_not_imported() -> None:
    code = "import sys, lightning_app.report.page.writing; sys.exit(bool({'torch', 'plotly'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
