"""A picture that can't be drawn is left out, and the summary comes last: where it is, all is as the log says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_app.analysis
from lightning_app.analysis import plots
from lightning_app.cli import main
from lightning_app.store.files import PICTURE, SUMMARY

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


def test_matplotlib_is_loaded_when_something_is_drawn() -> None:
    code = (
        "import sys, lightning_app.study.finalize, lightning_app.report.report;"
        " sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
