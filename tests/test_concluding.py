"""A picture that can't be drawn is left out, and the summary comes last: where it is, all is as the log says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_app.analysis
from lightning_app.analysis import plots
from lightning_app.cli import main
from lightning_app.errors import StorageError
from lightning_app.store.files import PICTURE, SUMMARY
from lightning_app.store.writer import StudyFolder

FOLDER = Path("outputs/tiny")


@pytest.mark.parametrize("how", ["drawing", "saving", "loading"])
def test_a_picture_that_fails_is_a_warning(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    assert main(study) == 0
    assert (FOLDER / PICTURE).exists()

    def fail(*args: object) -> None:
        assert not (FOLDER / SUMMARY).exists()
        raise RuntimeError("Failed to process string with tex:\nlatex could not be found")

    if how == "loading":
        monkeypatch.delattr(lightning_app.analysis, "plots")
        monkeypatch.setitem(sys.modules, "lightning_app.analysis.plots", None)
    else:
        monkeypatch.setattr(plots, "steps_vs_difficulty" if how == "drawing" else "as_file", fail)
    (FOLDER / SUMMARY).unlink()
    assert main(study) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the picture steps_vs_difficulty can't be drawn and is left out: " in said
    assert "latex could not be found" in said or how == "loading"
    assert "Traceback" not in said
    assert json.loads((FOLDER / SUMMARY).read_text())["counts"]["sampled"] == 6
    assert not (FOLDER / PICTURE).exists()  # the one that was there is of another table


@pytest.mark.parametrize("name", ["single_example_results.csv", "run.json", "config.yaml", PICTURE, SUMMARY])
def test_what_can_not_be_written_is_an_error_and_the_study_not_at_rest(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    replace, log = StudyFolder.replace, FOLDER / "study.jsonl"

    def full(self: StudyFolder, file: str, data: bytes) -> None:
        if file == name and log.read_bytes().count(b'"kind":"example"') == 6:  # at the end
            raise StorageError(f"{file} can't be written: No space left on device")
        replace(self, file, data)

    with monkeypatch.context() as patched:
        patched.setattr(StudyFolder, "replace", full)
        assert main(study) == 1
    assert f"{name} can't be written: No space left on device. What is done is whole; once" in capsys.readouterr().err
    assert not (FOLDER / SUMMARY).exists()
    before = log.read_bytes()
    assert main(study) == 0
    assert log.read_bytes() == before  # nothing is trained again
    assert (FOLDER / PICTURE).exists()
    assert json.loads((FOLDER / SUMMARY).read_text())["timing"]["store_bytes"] == len(before)


def test_at_rest_nothing_is_written_again(study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(study) == 0
    before = {file: file.stat() for file in FOLDER.rglob("*") if file.is_file() and file.suffix != ".log"}

    def never(self: StudyFolder, file: str, data: bytes) -> None:
        raise AssertionError(file)

    monkeypatch.setattr(StudyFolder, "replace", never)
    assert main(study) == 0
    for file, stat in before.items():
        if "tensorboard" not in file.parts:
            assert (file.stat().st_mtime_ns, file.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino), file


def test_a_summary_of_another_length_of_the_log_is_not_at_rest(study: list[str]) -> None:
    assert main(study) == 0
    whole = (FOLDER / SUMMARY).read_bytes()
    summary = json.loads(whole)
    summary["timing"]["store_bytes"] -= 1
    (FOLDER / SUMMARY).write_text(json.dumps(summary))
    (FOLDER / "single_example_results.csv").write_text("an odd table")
    next((FOLDER / "step_logs").iterdir()).unlink()
    assert main(study) == 0
    assert (FOLDER / SUMMARY).read_bytes() == whole
    assert (FOLDER / "single_example_results.csv").read_text().count("\n") == 7
    assert len(list((FOLDER / "step_logs").iterdir())) == 6


def test_matplotlib_is_loaded_when_something_is_drawn() -> None:
    code = (
        "import sys, lightning_app.concluding, lightning_app.report.making;"
        " sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
