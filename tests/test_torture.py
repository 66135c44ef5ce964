"""A small torture; `make torture` is the large one."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_study_that_is_killed_and_starved_is_the_undisturbed_one(study: list[str]) -> None:
    flags = [study[1 + i] for i in range(len(study) - 1)]
    for name in ("--max_examples", "--max_steps_per_example"):
        place = flags.index(name)
        del flags[place : place + 2]
    own = ["--kills", "8", "--examples", "2", "4", "--limits", "4", "12", "--model", "tiny", "--seed", "3"]
    own += ["--disasters", "size_limit"]
    program = [sys.executable, "-m", "tests.torture", *own, "--", *flags]
    done = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " kills in " in done.stdout
    assert int(done.stdout.split(" kills in ")[0].split()[-1]) >= 10
    assert "files that differ from the undisturbed study's: none" in done.stdout
    assert "files limited in size after" in done.stdout
