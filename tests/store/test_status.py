from dataclasses import replace
from pathlib import Path

import pytest

from lightning_app.errors import BadInputError
from lightning_app.inputs.example import Example
from lightning_app.store.fingerprint import Fingerprint, Goal, Stretch
from lightning_app.store.lock import WriterLock
from lightning_app.store.writer import RunFolder
from lightning_app.store.status import status_of
from lightning_app.training.trajectory import Failure, Outcome, Trajectory

EMPTY = Fingerprint({}, (Stretch({}),), Goal(4, 10))


def example(index: int) -> Example:
    return Example(index, f"{index}.jpg", Path(), 0, index + 1)


def trained(index: int, outcome: Outcome = "reached", steps: int = 4, seconds: float = 2.0) -> Trajectory:
    return Trajectory(example(index), outcome, [1.0] * steps, 0, -1, 0.1, seconds)


@pytest.fixture
def study(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.start(EMPTY, "", [], [])
    return folder


def test_a_study_that_has_just_begun(study: RunFolder) -> None:
    status = status_of(study.folder)
    assert (status.state, status.examples, status.done, status.left) == ("stopped", 4, 0, 4)
    assert (status.outcomes, status.steps_per_second, status.seconds_left, status.last_error) == ({}, None, None, None)


def test_a_study_in_the_middle(study: RunFolder) -> None:
    study.commit(trained(0), 0.1)
    study.commit(trained(1, "censored", 10, 5.0), 0.1)
    study.commit(Failure(example(2), "torn"), 0.1)
    status = status_of(study.folder)
    assert (status.done, status.left, status.steps) == (3, 1, 14)
    assert status.outcomes == {"censored": 1, "error": 1, "reached": 1}
    assert (status.steps_per_second, status.seconds_left) == (2.0, 3.5)
    assert status.examples_per_hour == pytest.approx(2 / 7 * 3600)
    lock = WriterLock(study.folder)
    assert status_of(study.folder).state == "running"
    lock.release()
    study.commit(trained(3), 0.1)
    status = status_of(study.folder)
    assert (status.state, status.left, status.seconds_left) == ("complete", 0, 0.0)


def test_a_row_that_is_being_written_is_not_counted(study: RunFolder) -> None:
    study.commit(trained(0), 0.1)
    with (study.folder / "single_example_results.csv").open("a") as stream:
        stream.write("1,1.jpg,4,0")
    assert status_of(study.folder).done == 1


def test_what_is_to_be_trained_again_is_left_and_what_is_beyond_is_apart(study: RunFolder) -> None:
    study.commit(trained(0), 0.1)
    study.commit(trained(1, "censored", 10), 0.1)
    study.commit(trained(2), 0.1)
    goal = replace(EMPTY, goal=Goal(2, 20, ("2.jpg",)))
    study.replace("run.json", goal.text().encode())
    status = status_of(study.folder)
    assert (status.examples, status.done, status.left, status.beyond_the_sample) == (2, 1, 1, 1)


def test_the_time_left_is_by_the_last_rows(study: RunFolder) -> None:
    study.start(replace(EMPTY, goal=Goal(100, 10)), "", [], [])
    for index in range(30):
        study.commit(trained(index, seconds=1000.0), 0.1)
    for index in range(30, 80):
        study.commit(trained(index, seconds=1.0), 0.1)
    assert status_of(study.folder).seconds_left == 20.0


def test_the_last_error_is_of_the_newest_log_that_has_one(study: RunFolder) -> None:
    line = "2026-01-0{0} 10:00:00,123 {1} example 0 (rank 1) 'a.jpg': {2}\n"
    (study.folder / "train_single_20260101-100000.log").write_text(
        line.format(1, "ERROR  ", "old") + line.format(2, "ERROR  ", "error: torn") + line.format(2, "INFO   ", "fine")
    )
    (study.folder / "train_single_20260103-100000.log").write_text(line.format(3, "WARNING", "odd"))
    assert status_of(study.folder).last_error == "2026-01-02 10:00:00: example 0 (rank 1) 'a.jpg': error: torn"


def test_a_run_that_has_not_begun_to_train_is_said_to_be_there(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    with pytest.raises(BadInputError, match="a run has begun there, but not to train yet"):
        status_of(tmp_path)
    lock.release()


def test_no_study_is_one_clear_error(study: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere holds no study \(no run.json is there\): give a"):
        status_of(tmp_path / "nowhere")
    (tmp_path / "outputs").mkdir()
    study.commit(trained(0), 0.1)
    study.folder.joinpath("run.json").rename(tmp_path / "run.json.away")
    (tmp_path / "outputs" / "m").mkdir()
    (tmp_path / "run.json.away").rename(tmp_path / "outputs" / "m" / "run.json")
    with pytest.raises(BadInputError, match=r"outputs is not a study's folder; it holds these: .*outputs/m$"):
        status_of(tmp_path / "outputs")
    with pytest.raises(BadInputError, match=r"can't be read: single_example_results.csv is there, but"):
        status_of(tmp_path)
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(BadInputError, match=r"can't be read: run.json is not as it was written"):
        status_of(tmp_path)
    with pytest.raises(BadInputError, match="holds no study"):
        status_of(tmp_path / ("x" * 300))
