import errno
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_app.cli import COMMANDS, main

HEAVY = ("torch", "timm", "lightning", "jsonargparse", "pandas", "numpy")


@pytest.mark.parametrize("argument", ["--help", "--version", "-h", "-V", "help"])
def test_help_and_version_import_nothing_heavy(argument: str) -> None:
    code = (
        f"import sys; from lightning_app.cli import main; code = main([{argument!r}]);"
        f" print(*(m for m in {HEAVY} if m in sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""
    assert "steps-to-epsilon" in done.stdout


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)
    assert main([]) == 2


def test_an_unknown_command_offers_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rum"]) == 2
    assert capsys.readouterr().err == "steps-to-epsilon rum: error: there is no such command; near: run\n"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lightning_app", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("steps-to-epsilon ")


def test_what_may_not_be_looked_at_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", "study/run.json")

    monkeypatch.setattr("lightning_app.commands.report.main", refuse)
    assert main(["report", "study"]) == 2
    said = "steps-to-epsilon report: error: study/run.json can't be used: Permission denied\n"
    assert capsys.readouterr().err == said
