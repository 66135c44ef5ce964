import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_app.errors import BadInputError, StorageError
from lightning_app.page import writing
from lightning_app.page.content import StudyOnPage
from lightning_app.page.writing import write_page
from tests.page.making import TABLES, frame, picture, study


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
        "report/survival.png", "report/study-0.js", "report/study-1.js",
        "report/curves/0-0.js", "report/curves/0-1.js", "report/curves/1-0.js",
    }  # fmt: skip
    assert len([f for f in files if "thumbnails" in f]) == 125  # the images that both studies have are there once
    html = files["report.html"].decode()
    assert html.index("<h1>A page</h1>") < html.index("Correlation") < html.index('id="scatter"')
    assert html.index('id="scatter"') < html.index('id="card"') < html.index('id="examples"') < html.index("Survival")
    assert "//" not in html.replace("</", "").replace("data:,", "")  # nothing from anywhere else
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_an_older_page_is_replaced(out: Path) -> None:
    _write([study(frame(250), Path("images"))])
    _write([study(frame(5), Path("images"))], "Another")
    assert "report/curves/0-1.js" not in _files(out)
    assert b"<h1>Another</h1>" in (out / "report.html").read_bytes()


@pytest.mark.parametrize("where", ["curves_script", "study_script", "write_whole", "_copy_plotly", "thumbnail"])
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
    (out / ".report.old").mkdir()  # killed between the two renames: there is no report/
    _write([study(frame(5))])
    assert sorted(path.name for path in out.iterdir()) == ["report", "report.html"]
    assert not (out / "report" / "half.js").exists()


def test_a_folder_of_somebody_else_is_not_touched(out: Path) -> None:
    (out / "report").mkdir()
    (out / "report" / "thesis.tex").touch()
    with pytest.raises(BadInputError, match=r"report is not the folder of a page"):
        _write([study(frame(5))])
    assert _files(out) == {"report/thesis.tex": b""}


def test_neither_is_a_link(out: Path) -> None:
    Path("elsewhere").mkdir()
    (Path("elsewhere") / "report.js").touch()
    (out / "report").symlink_to(Path("elsewhere").resolve())
    with pytest.raises(BadInputError):
        _write([study(frame(5))])
    assert (Path("elsewhere") / "report.js").exists()


def test_without_the_folder_the_error_names_it() -> None:
    with pytest.raises(StorageError, match=r"out/\.report\.writing can't be written: No such file"):
        _write([study(frame(5))])


def test_without_plotly_it_is_said(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match="pip install plotly"):
        _write([study(frame(5))])


def test_torch_and_plotly_are_not_imported() -> None:
    code = "import lightning_app.page.writing, sys; sys.exit(bool({'torch', 'plotly', 'lightning'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
