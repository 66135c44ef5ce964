import re
import shlex
from pathlib import Path

import pytest

from lightning_app.commands.fit import Fit
from lightning_app.commands.run import Run
from lightning_app.commands.validate import Validate

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
COMMANDS = re.findall(r"^(?:\.venv/bin/)?steps-to-epsilon (.+)$", README, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_parsed(line: str) -> None:
    Path("IMAGES").mkdir()
    name, *argv = shlex.split(line)
    {"run": Run, "fit": Fit, "validate": Validate}[name](argv)


def test_there_are_commands_and_every_make_target_exists() -> None:
    assert len(COMMANDS) >= 8
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_map_names_every_file() -> None:
    for file in (REPOSITORY / "lightning_app").rglob("*.py"):
        assert file.name in README or file.name.startswith("__"), file
    for link in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (REPOSITORY / link).exists(), link
