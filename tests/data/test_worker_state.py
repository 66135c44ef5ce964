"""What `status` sees of the workers of a study."""

from dataclasses import replace
from pathlib import Path

import pytest

from lightning_app.commands.status import main
from lightning_app.data.worker_state import WorkerState
from lightning_app.store.files import WORKERS
from lightning_app.store.lock import WriterLock
from lightning_app.store.status import forget_workers, read_workers, status_of, write_workers
from tests.store.test_status import study_of, trained

LINES = (
    WorkerState(1, "node1", "NVIDIA H100", "at work", 812.34, 12, 0, ("a.jpg", "b.jpg", "c.jpg")),
    WorkerState(2, "node2", "NVIDIA H100", "starting", None, 3, 2, ()),
)


def test_lines_are_read_back_and_forgotten(tmp_path: Path) -> None:
    assert read_workers(tmp_path) == ()
    write_workers(tmp_path, LINES)
    assert read_workers(tmp_path) == LINES
    forget_workers(tmp_path)
    assert not list(tmp_path.glob("*.json*"))


def test_the_time_left_is_shared_by_those_at_work(tmp_path: Path) -> None:
    study = study_of(tmp_path)
    study.commit(trained(0, seconds=6.0))
    at_work = [replace(LINES[0], worker=number) for number in (1, 2, 3)]
    write_workers(tmp_path, [*at_work, LINES[1]])
    lock = WriterLock(tmp_path)
    there = status_of(tmp_path)
    lock.release()
    assert (there.seconds_left, there.steps_per_second) == (6.0, 2.0)  # three examples of six seconds, three workers
    assert status_of(tmp_path).seconds_left == 18.0


@pytest.mark.parametrize("content", ["", "[1]", '[{"worker": 1}]', "{", '[{"in_hand": 3}]'])
def test_a_file_that_is_not_ours_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / WORKERS).write_text(content)
    assert read_workers(tmp_path) == ()


def test_without_a_folder_a_study_goes_on_as_well(tmp_path: Path) -> None:
    write_workers(tmp_path / "gone", LINES)
    forget_workers(tmp_path / "gone")


def test_words() -> None:
    assert LINES[0].describe() == "worker 1 (NVIDIA H100 on node1), 812.3 steps/s, 12 done: a.jpg and 2 more"
    assert LINES[1].describe() == "worker 2 (NVIDIA H100 on node2), 3 done, lost 2 times: starting"


def test_status_shows_them_while_a_run_holds_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_of(tmp_path)
    write_workers(tmp_path, LINES)
    assert status_of(tmp_path).workers == ()  # left behind by a kill
    lock = WriterLock(tmp_path)
    assert main([str(tmp_path)]) == 0
    lock.release()
    printed = capsys.readouterr().out
    assert "Worker 1 (NVIDIA H100 on node1), 812.3 steps/s, 12 done: a.jpg and 2 more\n" in printed
    assert "Worker 2 " in printed
