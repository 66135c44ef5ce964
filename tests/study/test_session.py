"""What ends a study outside of its training: nothing is half written, and nothing is done without the lock."""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

import lightning_app.study.plan
import lightning_app.study.run
from lightning_app.cli import main
from lightning_app.console.signals import StopSignal
from lightning_app.settings import StudySettings
from lightning_app.store.study_folder import StudyFolder
from lightning_app.study.session import Session, how_to_resume
from tests.commands.test_run import OUT


def interrupt(*args: object, **options: object) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_before_the_study_is_begun_leaves_none(study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning_app.study.run, "begin", interrupt)
    with pytest.raises(SystemExit) as done:
        main(study)
    assert done.value.code == 130
    assert not (OUT / "study.jsonl").exists()
    assert not (OUT / "training_summary.json").exists()


def test_a_signal_during_the_forecast_ends_the_plan(study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning_app.study.plan, "make_forecast", interrupt)
    more = ["--max_examples", "10", "--pilot_examples", "10", "--max_steps_per_example", "5"]
    assert main(["plan", *study[1:], *more]) == 130
    assert not (OUT / "plan.json").exists()
    assert (OUT / "study.jsonl").exists()


def test_a_signal_during_a_dry_run_ends_it(study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning_app.study.run, "log_sample", interrupt)
    assert main([*study, "--dry_run"]) == 130


def test_a_study_whose_flags_lightning_refuses_is_discarded_under_the_lock(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    locks = []
    discard = StudyFolder.discard

    def noting(folder: StudyFolder) -> None:
        locks.append((OUT / ".lock").exists())
        discard(folder)

    monkeypatch.setattr(StudyFolder, "discard", noting)
    assert main([*study, "--trainer.callbacks", "DeviceStatsMonitor"]) == 2
    assert "Lightning refuses its flags: " in capsys.readouterr().err
    assert locks == [True]
    assert not (OUT / "study.jsonl").exists()


@pytest.mark.parametrize(("address", "exits"), [(None, os._exit), ("auto", sys.exit)])
def test_one_worker_of_a_cluster_is_ended_too_at_a_second_signal(address: str | None, exits: object) -> None:
    prepared = Mock(devices=(Mock(),), settings=StudySettings(ray_address=address))
    at_work = Session(prepared, Mock(), Mock(), Mock(), StopSignal(""), Mock(devices=1), Mock())
    with at_work.stopping_gently():
        assert at_work.stop.exit_now is exits


def test_how_to_resume() -> None:
    settings = StudySettings(output_dir=Path("x"))
    assert how_to_resume(settings) == "rerun the command to resume"
    assert how_to_resume(replace(settings, overwrite=True)) == "rerun the command without --overwrite to resume"
