"""A small torture; `make torture` is the large one."""

import contextlib
import os
import signal
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
    torture = subprocess.Popen(
        program, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = torture.communicate()
    finally:  # also the attempt that hangs, where one does
        with contextlib.suppress(ProcessLookupError):
            os.killpg(torture.pid, signal.SIGKILL)
    assert torture.returncode == 0, out + err
    assert " kills in " in out
    assert int(out.split(" kills in ")[0].split()[-1]) >= 10
    assert "files that differ from the undisturbed study's: none" in out
    assert "files limited in size after" in out
