import os

import pytest

from lightning_app.cli import main
from lightning_app.process import settle_environment

SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_JOB_NAME": "study", "SLURM_JOB_NODELIST": "a[1-2]"}


def test_slurms_variables_go_and_threads_wait_quietly() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_WAIT_POLICY", raising=False)
        for name, value in SLURM.items():
            patch.setenv(name, value)
        settle_environment()
        assert not {*SLURM} & {*os.environ}
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        patch.setenv("OMP_WAIT_POLICY", "ACTIVE")  # who says so means it
        settle_environment()
        assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_study_runs_as_one_of_several_tasks_of_a_slurm_job(study: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SLURM.items():
            patch.setenv(name, value)
        assert main([*study, "--max_examples", "1"]) == 0
