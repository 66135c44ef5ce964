import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_app.errors import BadInputError, StorageError
from lightning_app.inputs.example import Example
from lightning_app.store.predictions import Answers
from lightning_app.store.fingerprint import Fingerprint, Goal, Stretch, read_fingerprint
from lightning_app.store.export import COLUMNS, path_of, table_text
from lightning_app.store.resume import Stock, take_stock
from lightning_app.store.writer import Found, RunFolder
from lightning_app.store.files import ELSEWHERE, folder_name, is_complete, read_study
from lightning_app.training.trajectory import Failure, Outcome, Trajectory
from tests.torture import Killer, fork

FINGERPRINT = Fingerprint({"epsilon": 0.5}, (Stretch({"torch": "3"}),), Goal(9, 100))
HEADER = ",".join(COLUMNS)


def example(index: int, path: str = "a.jpg", rank: int = 0) -> Example:
    return Example(index, path, Path(path), 0, rank or index + 1)


def result(index: int, path: str = "a.jpg", steps: int = 2, outcome: Outcome = "reached") -> Trajectory:
    losses = [2.0 / k for k in range(1, steps + 1)]
    return Trajectory(example(index, path), outcome, losses, 1, 2, 0.1, 1.0)


def lines(folder: Path) -> list[str]:
    return (folder / "single_example_results.csv").read_text().splitlines()


def logs(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "step_logs").iterdir()}


def new(folder: Path) -> RunFolder:
    study = RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    study.start(FINGERPRINT, "", [], [])
    return study


@pytest.mark.parametrize(
    ("model_name", "name"),
    [
        ("resnet34.a3_in1k", "resnet34.a3_in1k"),
        ("hf-hub:timm/vit b", "hf-hub_timm_vit_b"),
        ("local-dir:/models/my net/", "my_net"),
        ("../../etc", ".._.._etc"),
    ],
)
def test_a_models_folder(model_name: str, name: str) -> None:
    assert folder_name(model_name) == name


@pytest.mark.parametrize("model_name", ["..", ".", "local-dir:/"])
def test_a_name_of_dots_is_refused(model_name: str) -> None:
    with pytest.raises(BadInputError, match="gives no name for an output folder"):
        folder_name(model_name)


def test_a_link_that_leads_to_itself_is_a_name_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert folder_name(f"local-dir:{tmp_path}/loop") == "loop"


def test_a_row_and_its_log_are_on_disk_as_soon_as_an_example_ends(tmp_path: Path) -> None:
    study = new(tmp_path / "m")
    assert lines(study.folder) == [HEADER]
    study.commit(result(1), 0.5)
    assert len(lines(study.folder)) == 2
    assert logs(study.folder) == {"example_1_a.jpg_steps.csv": "step,loss\n1,2.0\n2,1.0\n"}
    study.commit(Failure(example(0, "b.jpg"), "broken"), 0.5)
    assert [line.split(",")[0] for line in lines(study.folder)] == ["example_index", "1", "0"]
    assert len(logs(study.folder)) == 1
    assert study.losses_of(study.rows["a.jpg"]) == [2.0, 1.0]
    assert not list(tmp_path.rglob(".writing"))


def test_at_rest_rows_are_sorted_by_index(tmp_path: Path) -> None:
    study = new(tmp_path / "m")
    for index in (10, 9, 0, 100):
        study.commit(result(index, f"{index}.jpg"), 0.5)
    study.rest()
    assert [line.split(",")[0] for line in lines(study.folder)[1:]] == ["0", "9", "10", "100"]


def test_what_was_written_is_found(tmp_path: Path) -> None:
    study = new(tmp_path / "m")
    assert study.find() is not None
    rows = [study.commit(result(1), 0.5), study.commit(Failure(example(0, 'b,"\n.jpg'), "broken"), 0.5)]
    found = RunFolder(tmp_path / "m").find()
    assert found is not None
    assert found == Found(replace(FINGERPRINT, trained_for=100), rows, b"", frozenset({"a.jpg"}))


@pytest.mark.parametrize("cut", [1, 5, 60])
def test_a_torn_last_row_is_told_from_the_others(tmp_path: Path, cut: int) -> None:
    study = new(tmp_path / "m")
    first = study.commit(result(0, "a"), 0.5)
    study.commit(result(1, 'b"\n,c'), 0.5)
    table = tmp_path / "m" / "single_example_results.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[:-cut])
    found = study.find()
    assert found is not None
    assert found.rows == [first]
    assert table_text(found.rows).encode() + found.torn == whole[:-cut]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "run.json").unlink(), "run.json, which says what its rows are, is not"),
        (
            lambda f: (f / "run.json").write_text("{"),
            "run.json is not as it was written (it is not JSON: Expecting property name",
        ),
        (lambda f: (f / "run.json").write_text('{"format": 1}'), "(it has format 1, this version writes 2)"),
        (lambda f: (f / "run.json").write_text('{"format": 2, "identity": 3}'), "run.json is not as it was written"),
        (lambda f: (f / "single_example_results.csv").unlink(), "run.json is there, but single_example_results.csv is"),
        (lambda f: (f / "single_example_results.csv").write_text("a,b\n1,2\n"), "line 1 is not the header"),
        (lambda f: (f / "single_example_results.csv").write_text(HEADER + "\n1,2\n3,4\n"), "line 2: it has 2 cells"),
        (lambda f: (f / "step_logs").rename(f / "elsewhere"), "step_logs, the folder of the step logs, is not there"),
    ],
)
def test_what_no_run_could_have_left_is_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    study = new(tmp_path / "m")
    study.commit(result(0), 0.5)
    spoil(tmp_path / "m")
    with pytest.raises(BadInputError, match=r"m holds a study that can't be read: ") as error:
        study.find()
    assert message in str(error.value)
    assert "Once that is mended, the same command goes on; --overwrite moves the study aside" in str(error.value)


def test_a_study_that_was_killed_before_it_began_is_a_new_one(tmp_path: Path) -> None:
    study = new(tmp_path / "m")
    (tmp_path / "m" / "run.json").unlink()
    assert study.find() is None


def test_a_study_is_moved_aside_with_its_answers_kept(tmp_path: Path) -> None:
    for turn in range(3):
        study = RunFolder(tmp_path / "m")
        with study.locked():
            if turn == 0:
                Answers(study.folder, {"k": 1}).put("a.jpg", 0, (True, 0))
                assert study.move_aside() is None  # answers alone are no study
            else:
                assert study.move_aside() is not None
                with pytest.raises(BadInputError, match="another run is writing"), RunFolder(tmp_path / "m").locked():
                    pass
            study.start(FINGERPRINT, "", [], [])
            if turn == 0:
                study.commit(result(0), 0.5)
    aside = list(tmp_path.glob("m.old-*"))
    assert sorted(len(lines(f)) for f in aside) == [1, 2]
    assert not list(tmp_path.rglob(".lock"))
    (first,) = (f for f in aside if len(lines(f)) == 2)
    assert (first / "step_logs" / "example_0_a.jpg_steps.csv").is_file()
    assert Answers(study.folder, {"k": 1}).get("a.jpg", 0) == (True, 0)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"--output_dir: .*can't be written: .*file is no folder"):
        RunFolder(tmp_path / "file" / "m")
    assert RunFolder(tmp_path / "new" / "m").folder.exists() is False
    with pytest.raises(BadInputError, match="can't be written"), RunFolder(Path("/proc/nothing/m")).locked():
        pass


def test_a_folder_into_which_nothing_was_put_goes_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with RunFolder(tmp_path / "there" / "out" / "m").locked():
        assert (tmp_path / "there" / "out" / "m").is_dir()
    assert not list((tmp_path / "there").iterdir())


def resumed(folder: Path, sample: Sequence[Example], limit: int = 100) -> tuple[RunFolder, Stock]:
    folder.mkdir(parents=True, exist_ok=True)
    study = RunFolder(folder)
    found = study.find()
    stock = take_stock(sample, found.rows if found else [], found.logged if found else (), limit)
    fingerprint = replace(found.fingerprint if found else FINGERPRINT, goal=Goal(len(sample), limit))
    study.start(fingerprint, "", found.rows if found else [], stock.rows)
    return study, stock


def trained(example: Example, limit: int) -> Trajectory:
    """What training would give: every third example needs more than ten steps."""
    needed = 30 if example.rank % 3 == 0 else 4
    outcome: Outcome = "reached" if needed <= limit else "censored"
    return replace(result(0, example.path, min(needed, limit), outcome), example=example)


def study_of(folder: Path, sample: Sequence[Example], limit: int) -> None:
    """A whole study, or the rest of one."""
    study, stock = resumed(folder, sample, limit)
    for one in stock.left:
        study.commit(trained(one, limit), 0.5)
    study.rest()


def sample_of(count: int) -> list[Example]:
    """Paths drawn in another order than that of their difficulty; some of their logs' names differ by number alone."""
    paths = ["b/c", "b_c", "d", 'e,"\n', "a" * 300, "a/b", "a_b", "f", "g", "h"]
    ranks = [7, 3, 8, 1, 4, 9, 2, 10, 5, 6]
    drawn = sorted(zip(ranks[:count], paths[:count], strict=True))
    return [Example(index, path, Path(path), 0, rank) for index, (rank, path) in enumerate(drawn)]


def contents(folder: Path) -> tuple[list[str], dict[str, str]]:
    return lines(folder), logs(folder)


STAGES = [(3, 10), (7, 10), (7, 50)]
"""A study that grows, and then gets more steps: examples and limit."""


def test_a_study_that_grew_is_one_that_was_large_from_the_start(tmp_path: Path) -> None:
    for count, limit in [(5, 10), (10, 10), (10, 50)]:
        study_of(tmp_path / "grown", sample_of(count), limit)
        study_of(tmp_path / f"fresh{count}{limit}", sample_of(count), limit)
        assert contents(tmp_path / "grown") == contents(tmp_path / f"fresh{count}{limit}")
    assert len(logs(tmp_path / "grown")) == 10
    assert sum("censored" in line for line in lines(tmp_path / "fresh1010")) == 3


def test_it_can_be_killed_at_every_operation_on_a_file(tmp_path: Path) -> None:
    """A power cut or SIGKILL at any of them, then the rest: the same files as without."""
    killed_at: list[str] = []
    with multiprocessing.get_context("spawn").Pool(1) as one_thread:  # this process has more, and can't be forked
        for stage, (count, limit) in enumerate(STAGES):
            sample = sample_of(count)
            study_of(tmp_path / f"expected{stage}", sample, limit)
            for number in range(1, 10_000):
                folder = tmp_path / f"killed{stage}_{number}"
                for earlier in STAGES[:stage]:
                    study_of(folder, sample_of(earlier[0]), earlier[1])
                operation = one_thread.apply(killed, (folder, sample, limit, number, tmp_path / "operation"))
                if not operation:
                    break
                killed_at.append(operation)
                study_of(folder, sample, limit)
                assert contents(folder) == contents(tmp_path / f"expected{stage}"), operation
                assert not list(folder.rglob(".writing")), operation
    kinds = {operation.split("/")[-1].split(" for")[0] for operation in killed_at}
    assert len(killed_at) > 80
    assert "half of a write of single_example_results.csv" in kinds
    assert any(kind.startswith("moving_") for kind in kinds)
    # All is flushed: rows, files before they are renamed, names.
    for flushed in ("single_example_results.csv", ".writing", "step_logs"):
        assert f"after a fsync of {flushed}" in kinds


def killed(folder: Path, sample: Sequence[Example], limit: int, number: int, note: Path) -> str:
    """Makes a study in a child that is killed at its so manyth operation on a file; which that was, empty if none."""
    note.write_text("")
    child = fork()
    if not child:
        left = [number]

        def dies(operation: str) -> bool:
            left[0] -= 1
            if left[0] == 0:
                note.write_text(operation)
            return left[0] == 0

        code = 1
        try:
            signal.alarm(60)  # so that a child that hangs ends, also when nobody waits for it any more
            Killer(dies)
            study_of(folder, sample, limit)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return note.read_text() if code else ""


def test_a_smaller_sample_deletes_nothing(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(10), 10)
    before = contents(tmp_path / "m")
    _, stock = resumed(tmp_path / "m", sample_of(4), 10)
    assert not stock.left
    assert len(stock.beyond) == 6
    assert contents(tmp_path / "m") == before


def outcomes(study: RunFolder) -> list[str]:
    found = study.find()
    assert found is not None
    return sorted(str(row["outcome"]) for row in found.rows)


def test_a_censored_row_stays_until_its_example_is_trained_again(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    study, stock = resumed(tmp_path / "m", sample_of(5), 50)
    assert [one.rank for one in stock.left] == [3]
    assert outcomes(study) == ["censored", *["reached"] * 4]
    study.commit(trained(stock.left[0], 50), 0.5)
    assert outcomes(study) == ["reached"] * 5


def test_files_of_others_among_the_step_logs_are_left_alone(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    (tmp_path / "m" / "step_logs" / "notes.txt").write_text("mine")
    (tmp_path / "m" / "step_logs" / "example_99_gone_steps.csv").write_text("step,loss\n")
    study_of(tmp_path / "m", sample_of(5), 10)
    assert "notes.txt" in logs(tmp_path / "m")
    assert len(logs(tmp_path / "m")) == 6
    assert not list((tmp_path / "m").glob("step_logs.old-*"))


def test_step_logs_whose_rows_somebody_took_out_are_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    expected = contents(tmp_path / "m")
    (tmp_path / "m" / "single_example_results.csv").write_text(HEADER + "\n")
    study_of(tmp_path / "m", sample_of(5), 10)
    (aside,) = (tmp_path / "m").glob("step_logs.old-*")
    assert {file.name: file.read_text() for file in aside.iterdir()} == expected[1]
    assert "5 step logs belong to no row of the table" in caplog.text
    assert contents(tmp_path / "m") == expected


def test_rows_of_an_earlier_environment_are_known_and_let_go_when_trained_again(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    study = RunFolder(tmp_path / "m")
    found = study.find()
    assert found is not None
    stock = take_stock(sample_of(5), found.rows, found.logged, 50)
    other: dict[str, object] = {"torch": "4"}
    stretches = found.fingerprint.went_on(other, [path_of(row) for row in stock.rows])
    study.start(Fingerprint(found.fingerprint.identity, stretches, Goal(5, 50)), "", found.rows, stock.rows)
    paths = {path_of(row) for row in found.rows}
    assert [(s.environment, set(s.paths or ())) for s in stretches] == [({"torch": "3"}, paths), (other, set())]
    again = study.commit(trained(stock.left[0], 50), 0.5)
    found = RunFolder(tmp_path / "m").find()
    assert found is not None
    assert set(found.fingerprint.stretches[0].paths or ()) == paths - {path_of(again)}


@pytest.mark.parametrize("name", ["step_logs", "single_example_results.csv"])
def test_a_write_that_fails_names_the_file_and_leaves_the_table_whole(tmp_path: Path, name: str) -> None:
    study = new(tmp_path / "m")
    study.commit(result(0, "a"), 0.5)
    before = lines(study.folder)
    (tmp_path / "m" / name).rename(tmp_path / "away")
    with pytest.raises(StorageError, match=rf"m/{name}.* can't be written: No such file or directory"):
        study.commit(result(1, "b"), 0.5)
    assert not (tmp_path / "m" / name).exists()
    (tmp_path / "away").rename(tmp_path / "m" / name)
    assert lines(study.folder) == before
    assert list(study.rows) == ["a"]


def test_on_a_full_disk_a_row_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = new(tmp_path / "m")
    study.commit(result(0, "a"), 0.5)
    before = lines(study.folder)
    write, room = os.write, [20]

    def little(descriptor: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        done = write(descriptor, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", little)
    with pytest.raises(StorageError, match=r"single_example_results.csv can't be written: No space left on device"):
        study.commit(result(1, "b"), 0.5)
    assert lines(study.folder) == before


def test_a_write_that_fails_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = new(tmp_path / "m")
    study.commit(result(1, "b"), 0.5)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"example_0_a_steps.csv can't be written: No space left on device"):
        study.commit(result(0, "a"), 0.5)
    assert not list(tmp_path.rglob(".writing"))


def test_a_run_whose_folder_was_taken_away_does_not_write_into_the_next_one(tmp_path: Path) -> None:
    study = RunFolder(tmp_path / "m")
    with study.locked():
        study.start(FINGERPRINT, "", [], [])
        study.commit(result(0, "a"), 0.5)
        (tmp_path / "m").rename(tmp_path / "away")
        with RunFolder(tmp_path / "m").locked():
            study_of(tmp_path / "m", sample_of(3), 10)
            before = contents(tmp_path / "m")
            for write in (lambda: study.commit(result(1, "b"), 0.5), study.rest):
                with pytest.raises(StorageError, match="it was moved or removed, or another run has it"):
                    write()
            assert contents(tmp_path / "m") == before


def test_a_folder_that_has_turned_read_only_is_still_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    def fails() -> None:
        with RunFolder(tmp_path / "m").locked():
            monkeypatch.setattr(Path, "unlink", refused)
            raise StorageError("the study's own")

    with pytest.raises(StorageError, match="the study's own"):
        fails()
    monkeypatch.undo()
    with RunFolder(tmp_path / "m").locked():
        pass


ELSEWHERE_MADE: dict[str, object] = {"torch": "4"}


def test_where_a_row_is_from_is_on_disk_before_it_and_in_the_fingerprint_at_rest(tmp_path: Path) -> None:
    study = new(tmp_path)
    study.commit(result(0, "a.jpg"), 0.5)
    study.commit(replace(result(1, "b.jpg"), environment=ELSEWHERE_MADE), 0.5)
    found = RunFolder(tmp_path).find()  # as a run would that goes on after a kill
    assert found is not None
    assert found.fingerprint.stretches == (Stretch(ELSEWHERE_MADE, ("b.jpg",)), Stretch({"torch": "3"}))
    assert json.loads((tmp_path / "run.json").read_text())["stretches"] == [
        {"environment": {"torch": "3"}, "paths": None}
    ]
    study.rest()
    assert not (tmp_path / ELSEWHERE).exists()
    there = read_fingerprint((tmp_path / "run.json").read_text())
    assert there.stretches == found.fingerprint.stretches


def test_a_line_of_elsewhere_that_was_cut_short_has_no_row_and_is_no_error(tmp_path: Path) -> None:
    study = new(tmp_path)
    study.commit(replace(result(0, "a.jpg"), environment=ELSEWHERE_MADE), 0.5)
    with (tmp_path / ELSEWHERE).open("a") as stream:
        stream.write('{"path": "b.jp')
    found = RunFolder(tmp_path).find()
    assert found is not None
    assert found.fingerprint.stretches[0] == Stretch(ELSEWHERE_MADE, ("a.jpg",))


def test_another_limit_is_noted_before_the_first_row_that_has_it(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    study, stock = resumed(tmp_path / "m", sample_of(5), 50)
    assert read_study(tmp_path / "m")[0].trained_for == 10  # type: ignore[index]
    study.commit(trained(stock.left[0], 50), 0.5)
    assert read_study(tmp_path / "m")[0].trained_for == 50  # type: ignore[index]


def test_what_is_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    (tmp_path / "training_summary.json").write_text('{"counts": {"done": 4, "sampled": 5}}')
    assert not is_complete(tmp_path)
    (tmp_path / "training_summary.json").write_text('{"counts": {"done": 5, "sampled": 5}}')
    assert is_complete(tmp_path)
    (tmp_path / "training_summary.json").write_text("{")
    assert not is_complete(tmp_path)


def test_answers_are_kept_by_path_label_and_identity(tmp_path: Path) -> None:
    answers = Answers(tmp_path, {"weights": "x"})
    answers.put('a,"b"\n.jpg', 3, (True, 3))
    answers.put("c.jpg", 0, (False, 2))
    with answers.file.open("a") as stream:
        stream.write("d.jpg,0,")  # a power cut in the middle of a line
    again = Answers(tmp_path, {"weights": "x"})
    assert again.get('a,"b"\n.jpg', 3) == (True, 3)
    assert again.get("c.jpg", 0) == (False, 2)
    assert again.get("d.jpg", 0) is None
    assert again.get("c.jpg", 1) is None
    again.put("d.jpg", 0, (True, 0))
    assert Answers(tmp_path, {"weights": "x"}).get("d.jpg", 0) == (True, 0)
    assert Answers(tmp_path, {"weights": "y"}).get("c.jpg", 0) is None


@given(
    st.binary() | st.text().map(str.encode),
    st.lists(st.tuples(st.text(), st.integers(0, 9), st.tuples(st.booleans(), st.integers(0, 9)))),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_file_of_answers_is_read_and_answers_read_back(
    tmp_path: Path, junk: bytes, given: list[tuple[str, int, tuple[bool, int]]]
) -> None:
    answers = Answers(tmp_path, {"weights": "x"})
    answers.file.unlink(missing_ok=True)
    for path, label, answer in given:
        answers.put(path, label, answer)
    expected = {(path, label): answer for path, label, answer in given}
    again = Answers(tmp_path, {"weights": "x"})
    assert {key: again.get(*key) for key in expected} == expected
    answers.file.write_bytes(junk)
    Answers(tmp_path, {"weights": "x"}).put("a", 1, (True, 1))
    assert Answers(tmp_path, {"weights": "x"}).get("a", 1) == (True, 1)
