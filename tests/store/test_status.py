from pathlib import Path

import pytest

from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.errors import BadInputError
from lightning_app.store.lock import WriterLock
from lightning_app.store.status import status_of
from lightning_app.store.study_folder import StudyFolder
from tests.store.studies import begun, example, trajectory


def trained(index: int, steps: int = 4, seconds: float = 2.0) -> Trajectory:
    """An example that reached epsilon at its last step."""
    return trajectory(example(index), [1.0] * (steps - 1) + [0.1], seconds)


def given_up(index: int, seconds: float = 2.0) -> Trajectory:
    """One that did not in ten steps."""
    return trajectory(example(index), [1.0] * 10, seconds)


def study_of(folder: Path, examples: int = 4) -> StudyFolder:
    """A study of some examples of up to ten steps, begun or gone on with."""
    study, _ = begun(folder, [example(index) for index in range(examples)], 10)
    return study


@pytest.fixture
def study(tmp_path: Path) -> StudyFolder:
    return study_of(tmp_path)


def test_a_study_that_has_just_begun(study: StudyFolder) -> None:
    status = status_of(study.folder)
    assert (status.state, status.examples, status.done, status.left) == ("stopped", 4, 0, 4)
    assert (status.outcomes, status.steps_per_second, status.seconds_left, status.last_error) == ({}, None, None, None)


def test_a_study_in_the_middle(study: StudyFolder) -> None:
    study.commit(trained(0))
    study.commit(given_up(1, 5.0))
    study.commit(Failure(example(2), "torn"))
    status = status_of(study.folder)
    assert (status.done, status.left, status.steps) == (3, 1, 14)
    assert status.outcomes == {"censored": 1, "error": 1, "reached": 1}
    assert (status.steps_per_second, status.seconds_left) == (2.0, 3.5)
    assert status.examples_per_hour == pytest.approx(2 / 7 * 3600)
    lock = WriterLock(study.folder)
    assert status_of(study.folder).state == "running"
    lock.release()
    study.commit(trained(3))
    status = status_of(study.folder)
    assert (status.state, status.left, status.seconds_left) == ("complete", 0, 0.0)


def test_a_line_that_is_being_written_is_not_counted(study: StudyFolder) -> None:
    study.commit(trained(0))
    with (study.folder / "study.jsonl").open("a") as stream:
        stream.write('{"kind":"example","path":"1.jpg","ra')
    assert status_of(study.folder).done == 1


def test_what_is_exported_is_not_asked(study: StudyFolder) -> None:
    study.commit(trained(0))
    expected = status_of(study.folder)
    results = study.folder / "single_example_results.csv"
    results.write_text(results.read_text().replace("reached", "error"))
    (study.folder / "run.json").unlink()
    assert status_of(study.folder) == expected


def test_what_is_to_be_trained_again_is_left_and_what_is_beyond_is_apart(study: StudyFolder) -> None:
    study.commit(trained(0))
    study.commit(given_up(1))
    study.commit(trained(2))
    begun(study.folder, [example(0), example(1)], 20)
    status = status_of(study.folder)
    assert (status.examples, status.done, status.left, status.beyond_the_sample) == (2, 1, 1, 1)


def test_the_time_left_is_by_the_last_lines(tmp_path: Path) -> None:
    study = study_of(tmp_path, 100)
    for index in range(30):
        study.commit(trained(index, seconds=1000.0))
    for index in range(30, 80):
        study.commit(trained(index, seconds=1.0))
    assert status_of(study.folder).seconds_left == 20.0


def test_the_last_error_is_of_the_newest_log_that_has_one(study: StudyFolder) -> None:
    line = "2026-01-0{0} 10:00:00,123 {1} example 0 (rank 1) 'a.jpg': {2}\n"
    (study.folder / "train_single_20260101-100000.log").write_text(
        line.format(1, "ERROR  ", "old") + line.format(2, "ERROR  ", "error: torn") + line.format(2, "INFO   ", "fine")
    )
    (study.folder / "train_single_20260103-100000.log").write_text(line.format(3, "WARNING", "odd"))
    assert status_of(study.folder).last_error == "2026-01-02 10:00:00: example 0 (rank 1) 'a.jpg': error: torn"


@pytest.mark.parametrize("text", ["", '{"kind":"study","format":3,"identity":{"epsilon":0.5}}\n{"ki'])
def test_a_run_that_was_killed_before_it_began_is_told_from_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.jsonl").write_text(text)
    with pytest.raises(BadInputError, match="a run was ended there before it had begun to train"):
        status_of(tmp_path)


def test_a_run_that_has_not_begun_to_train_is_said_to_be_there(tmp_path: Path) -> None:
    lock = WriterLock(tmp_path)
    with pytest.raises(BadInputError, match="a run has begun there, but not to train yet"):
        status_of(tmp_path)
    lock.release()


def test_no_study_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere holds no study \(no study.jsonl is there\): give a"):
        status_of(tmp_path / "nowhere")
    study_of(tmp_path / "outputs" / "m")
    with pytest.raises(BadInputError, match=r"outputs is not a study's folder; it holds these: .*outputs/m$"):
        status_of(tmp_path / "outputs")
    with pytest.raises(BadInputError, match="holds no study"):
        status_of(tmp_path / ("x" * 300))


def test_a_study_that_can_not_be_read_is_one_clear_error(study: StudyFolder) -> None:
    study.commit(trained(0))
    log = study.folder / "study.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:2], "[]\n", *lines[3:]]))
    with pytest.raises(BadInputError, match=r"holds a study that can't be read: study\.jsonl, line 3: "):
        status_of(study.folder)
    log.write_text("".join([lines[0].replace('"format":3', '"format":12'), *lines[1:]]))
    with pytest.raises(BadInputError, match=r"line 1: it has format 12, .*it is of a newer steps"):
        status_of(study.folder)


@pytest.mark.parametrize(
    ("fingerprint", "version"),
    [
        ('{"stretches": [{"environment": {"steps-to-epsilon": "0.9.1"}}]}', r"steps-to-epsilon 0\.9\.1"),
        ("[]", "an earlier version"),
        ('{"stretches": []}', "an earlier version"),
    ],
)
def test_a_study_of_an_earlier_version_is_said_to_be_one(tmp_path: Path, fingerprint: str, version: str) -> None:
    (tmp_path / "run.json").write_text(fingerprint)
    message = f"holds a study of {version}, without study.jsonl; report reads its table$"
    with pytest.raises(BadInputError, match=message):
        status_of(tmp_path)
