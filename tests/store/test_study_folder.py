import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_app.data.trajectory import Failure
from lightning_app.errors import BadInputError, StorageError
from lightning_app.store.export import COLUMNS
from lightning_app.store.files import folder_name
from lightning_app.store.predictions import PredictionCache
from lightning_app.store.study_folder import StudyFolder, is_complete
from lightning_app.store.study_log import STORE, read_study
from lightning_app.study import finalize as concluding
from lightning_app.study.finalize import finalize
from tests.store.studies import begun, example, exports, sample_of, study_of, trained, trajectory, without_sizes

ROOT = Path(__file__).parents[2]
HEADER = ",".join(COLUMNS)
SAMPLE = [example(0, "a.jpg"), example(1, "b.jpg"), example(2, "c.jpg")]


def lines(folder: Path) -> list[str]:
    return (folder / "single_example_results.csv").read_text().splitlines()


def logs(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "step_logs").iterdir()}


@pytest.fixture(autouse=True)
def quick_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concluding, "drawn", lambda *args: {"png": b"a picture"})


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


def test_a_row_and_a_step_log_are_there_as_soon_as_an_example_ends(tmp_path: Path) -> None:
    study, _ = begun(tmp_path / "m", SAMPLE)
    assert lines(study.folder) == [HEADER]
    study.commit(trajectory(SAMPLE[1], [2.0, 0.25]))
    assert logs(study.folder) == {"example_1_b.jpg_steps.csv": "step,loss\n1,2.0\n2,0.25\n"}
    study.commit(Failure(SAMPLE[0], "broken"))
    assert [line.split(",")[0] for line in lines(study.folder)] == ["example_index", "1", "0"]
    assert len(logs(study.folder)) == 1
    assert not list(tmp_path.rglob("*.writing"))


def test_at_rest_rows_are_in_the_order_of_difficulty(tmp_path: Path) -> None:
    sample = [example(index) for index in range(101)]
    study, _ = begun(tmp_path / "m", sample)
    for index in (10, 9, 0, 100):
        study.commit(trajectory(sample[index], [0.25]))
    finalize(study)
    assert [line.split(",")[0] for line in lines(study.folder)[1:]] == ["0", "9", "10", "100"]


def test_at_rest_all_is_that_of_the_log_and_nothing_is_written_again(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    summary = json.loads((tmp_path / "m" / "training_summary.json").read_text())
    assert summary["timing"]["store_bytes"] == (tmp_path / "m" / STORE).stat().st_size
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "m").rglob("*")}
    study, plan = begun(tmp_path / "m", sample_of(5), 10)
    finalize(study)
    assert not plan.left
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "m").rglob("*")} == times


def edit_the_table(folder: Path) -> None:
    (folder / "single_example_results.csv").write_text("mine\n")


def lose_a_log(folder: Path) -> None:
    next((folder / "step_logs").iterdir()).unlink()


def spoil_a_log(folder: Path) -> None:
    file = next((folder / "step_logs").iterdir())
    file.write_bytes(file.read_bytes().replace(b"1", b"7"))


@pytest.mark.parametrize("spoil", [edit_the_table, lose_a_log, spoil_a_log])
def test_what_people_do_to_the_exports_changes_nothing_in_the_study(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    study_of(tmp_path / "undisturbed", sample_of(5), 10)
    store = (tmp_path / "m" / STORE).read_bytes()
    spoil(tmp_path / "m")
    summary = tmp_path / "m" / "training_summary.json"
    summary.write_text(summary.read_text().replace('"store_bytes": ', '"store_bytes": 1'))  # not at rest
    study_of(tmp_path / "m", sample_of(5), 10)
    assert exports(tmp_path / "m") == exports(tmp_path / "undisturbed")
    assert (tmp_path / "m" / STORE).read_bytes() == store


def test_a_torn_last_line_is_said_and_its_example_is_trained_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    expected = exports(tmp_path / "m")
    store = tmp_path / "m" / STORE
    whole = store.read_bytes()
    store.write_bytes(whole[:-7])
    study, plan = begun(tmp_path / "m", sample_of(5), 10)
    assert len(plan.left) == 1
    assert f"{STORE} ended in the middle of a line: " in caplog.text
    study.commit(trained(plan.left[0], 10))
    finalize(study)
    assert store.read_bytes() == whole
    assert exports(tmp_path / "m") == expected


def test_a_study_that_can_not_be_read_is_refused_with_the_line(tmp_path: Path) -> None:
    study, _ = begun(tmp_path / "m", SAMPLE)
    (tmp_path / "m" / STORE).write_bytes(b"{}\n" * 3)
    with pytest.raises(BadInputError, match=rf"m holds a study that can't be read: {STORE}, line 1: .*--overwrite mov"):
        study.find()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"single_example_results.csv": "a,b\n"}, f"a study of an earlier version, without {STORE}"),
        ({"run.json": "{"}, f"a study of an earlier version, without {STORE}"),
        ({"single_example_results.csv": "a,b\n", STORE: ""}, f"a table beside a {STORE} that holds no study"),
        (
            {"run.json": '{"format": 2, "stretches": [{"environment": {"steps-to-epsilon": "1.0.0"}}]}'},
            f"a study of steps-to-epsilon 1.0.0, without {STORE}",
        ),
    ],
)
def test_an_earlier_versions_study_is_never_started_over(tmp_path: Path, files: dict[str, str], found: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(BadInputError, match=f"holds {found}, which can't be resumed .report reads its table"):
        StudyFolder(folder).find()
    assert {file.name: file.read_text() for file in folder.iterdir()} == files


def test_a_study_that_was_killed_before_it_began_is_a_new_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study_of(tmp_path / "expected", sample_of(3), 10)
    (tmp_path / "m").mkdir()
    whole = (tmp_path / "expected" / STORE).read_bytes()
    (tmp_path / "m" / STORE).write_bytes(whole[:100])
    study_of(tmp_path / "m", sample_of(3), 10)
    assert f"{STORE} ended before its study had begun: 100 bytes are cut off" in caplog.text
    assert (tmp_path / "m" / STORE).read_bytes() == whole


def test_a_study_is_moved_aside_and_what_the_model_was_asked_is_kept(tmp_path: Path) -> None:
    for turn in range(3):
        study = StudyFolder(tmp_path / "m")
        with study.locked():
            if turn == 0:
                asked = PredictionCache(study.folder, {"k": 1})
                asked.put("a.jpg", 0, (True, 0))
                asked.close()
                assert study.move_aside() is None  # that alone is no study
            else:
                assert study.move_aside() is not None
                with pytest.raises(BadInputError, match="another run is writing"), StudyFolder(tmp_path / "m").locked():
                    pass
        study, _ = begun(tmp_path / "m", SAMPLE)
        if turn == 0:
            study.commit(trajectory(SAMPLE[0], [0.25]))
    aside = list(tmp_path.glob("m.old-*"))
    assert sorted(len(lines(f)) for f in aside) == [1, 2]
    assert not list(tmp_path.rglob(".lock"))
    (first,) = (f for f in aside if len(lines(f)) == 2)
    assert (first / "step_logs" / "example_0_a.jpg_steps.csv").is_file()
    assert PredictionCache(study.folder, {"k": 1}).get("a.jpg", 0) == (True, 0)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"--output_dir: .*can't be written: .*file is no folder"):
        StudyFolder(tmp_path / "file" / "m")
    assert StudyFolder(tmp_path / "new" / "m").folder.exists() is False
    with pytest.raises(BadInputError, match="can't be written"), StudyFolder(Path("/proc/nothing/m")).locked():
        pass


def test_a_folder_that_cannot_be_renamed_is_emptied_into_one_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mount point can't."""
    folder, rename = tmp_path / "m", Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self == folder:
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    study_of(folder, sample_of(2), 10)
    before = without_sizes(folder)
    for number in (1, 2):
        study = StudyFolder(folder)
        with study.locked():
            aside = study.move_aside()
        assert aside is not None
        assert sorted(folder.iterdir()) == sorted(folder.glob("study.old-*"))
        assert len(list(folder.iterdir())) == number
        assert without_sizes(aside) == before
        study_of(folder, sample_of(2), 10)
        assert without_sizes(folder) == before


def test_a_folder_into_which_nothing_was_put_goes_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with StudyFolder(tmp_path / "there" / "out" / "m").locked():
        assert (tmp_path / "there" / "out" / "m").is_dir()
    assert not list((tmp_path / "there").iterdir())


def test_a_study_that_grew_is_one_that_was_large_from_the_start(tmp_path: Path) -> None:
    for count, limit in [(5, 10), (10, 10), (10, 50)]:
        study_of(tmp_path / "grown", sample_of(count), limit)
        study_of(tmp_path / f"fresh{count}{limit}", sample_of(count), limit)
        assert without_sizes(tmp_path / "grown") == without_sizes(tmp_path / f"fresh{count}{limit}")
    assert len(logs(tmp_path / "grown")) == 10
    assert sum("censored" in line for line in lines(tmp_path / "fresh1010")) == 3
    assert not list((tmp_path / "grown").glob("step_logs.old-*"))


@pytest.mark.parametrize("how", ["killed", "full"])
def test_whatever_ends_it_at_an_operation_on_a_file_the_rest_is_the_undisturbed_study(how: str) -> None:
    """A tenth of all operations; `make torture` tries each."""
    subprocess.run([sys.executable, "-m", "tests.store.kills", "--share", "0.1", "--how", how], check=True, cwd=ROOT)


def test_a_smaller_sample_deletes_nothing(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(10), 10)
    table, there = lines(tmp_path / "m"), logs(tmp_path / "m")
    study, plan = begun(tmp_path / "m", sample_of(4), 10)
    assert not plan.left
    assert len(plan.out_of_sample) == 6
    finalize(study)
    assert (lines(tmp_path / "m"), logs(tmp_path / "m")) == (table, there)
    summary = json.loads((tmp_path / "m" / "training_summary.json").read_text())
    assert (summary["counts"]["beyond_the_sample"], len(summary["results"])) == (6, 4)


def test_a_censored_example_stays_until_it_is_trained_again(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    study, plan = begun(tmp_path / "m", sample_of(5), 50)
    assert [one.rank for one in plan.left] == [3]
    assert sorted(stored.line.outcome for stored in study.study.examples.values()) == ["censored", *["reached"] * 4]
    assert "censored" not in "".join(lines(tmp_path / "m"))  # it comes into the table when it ends
    found = read_study(tmp_path / "m")
    assert found is not None
    assert (found.trained_for, len(found.examples)) == (10, 5)
    study.commit(trained(plan.left[0], 50))
    found = read_study(tmp_path / "m")
    assert found is not None
    assert found.trained_for == 50
    assert [stored.line.outcome for stored in found.examples.values()] == ["reached"] * 5


def test_an_example_whose_training_fails_the_second_time_keeps_what_it_has(tmp_path: Path) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    study, plan = begun(tmp_path / "m", sample_of(5), 50)
    stored = study.commit(Failure(plan.left[0], "broken"))
    assert stored.line.outcome == "censored"
    finalize(study)
    assert sum("censored" in line for line in lines(tmp_path / "m")) == 1
    study_of(tmp_path / "m", sample_of(5), 50)  # once it is mended
    study_of(tmp_path / "fresh", sample_of(5), 50)
    assert without_sizes(tmp_path / "m") == without_sizes(tmp_path / "fresh")


def test_an_error_is_tried_again_and_stands_once(tmp_path: Path) -> None:
    study, _ = begun(tmp_path / "m", SAMPLE)
    for reason in ("broken", "broken", "worse"):
        study.commit(Failure(SAMPLE[0], reason))
    assert (tmp_path / "m" / STORE).read_text().count('"reason"') == 2
    study, plan = begun(tmp_path / "m", SAMPLE)
    assert plan.errors == ("a.jpg",)
    study.commit(trajectory(plan.left[0], [0.25]))
    finalize(study)
    assert [line.split(",")[5] for line in lines(tmp_path / "m")[1:]] == ["reached"]


def test_a_run_that_looked_before_another_began_takes_nothing_from_it(tmp_path: Path) -> None:
    """Where no lock holds: a run looks, reads and asks its model for minutes, and then begins."""
    late = StudyFolder(tmp_path / "m")
    (tmp_path / "m").mkdir()
    assert late.find() is None
    study_of(tmp_path / "m", SAMPLE, 10)
    found = StudyFolder(tmp_path / "m").find()
    assert found is not None
    for there in (None, found):
        before = (tmp_path / "m" / STORE).read_bytes()
        with pytest.raises(StorageError, match="another process has written to it"):
            late.begin(there, found.identity, found.environments[1], found.target, found.command)
        assert (tmp_path / "m" / STORE).read_bytes() == before
        study, _ = begun(tmp_path / "m", [*SAMPLE, example(3)], 10)  # the other one grows
        study.commit(trained(example(3), 10))


def test_the_summary_goes_as_soon_as_a_run_goes_on(tmp_path: Path) -> None:
    study, plan = begun(tmp_path / "m", SAMPLE)
    study.commit(trained(plan.left[0], 100))
    finalize(study)
    assert (tmp_path / "m" / "training_summary.json").exists()
    begun(tmp_path / "m", SAMPLE)
    assert not (tmp_path / "m" / "training_summary.json").exists()


def test_step_logs_that_the_study_does_not_know_are_set_aside_and_files_of_others_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    study_of(tmp_path / "m", sample_of(5), 10)
    there = tmp_path / "m" / "step_logs"
    (there / "example_98_x_steps.csv").mkdir()
    (there / "example_99_gone_steps.csv").write_text("step,loss\n1,7.0\n")
    (there / "notes.txt").write_text("mine")
    study_of(tmp_path / "m", sample_of(7), 10)
    (aside,) = (tmp_path / "m").glob("step_logs.old-*")
    assert [file.name for file in sorted(aside.iterdir())] == ["example_98_x_steps.csv", "example_99_gone_steps.csv"]
    assert (aside / "example_99_gone_steps.csv").read_text() == "step,loss\n1,7.0\n"
    assert f"2 step logs are not of this study as it is; they are now in {aside}" in caplog.text
    assert logs(tmp_path / "m").pop("notes.txt") == "mine"
    assert len(logs(tmp_path / "m")) == 8


def test_where_an_example_was_trained_is_in_its_line(tmp_path: Path) -> None:
    study, plan = begun(tmp_path / "m", SAMPLE)
    study.commit(trajectory(plan.left[0], [0.25]))
    elsewhere = trajectory(plan.left[1], [0.25])
    study.commit(elsewhere.__class__(**{**vars(elsewhere), "environment": {"torch": "4"}}))
    found = read_study(tmp_path / "m")
    assert found is not None
    assert found.environments == {1: {"torch": "3"}, 2: {"torch": "4"}}
    assert [stored.line.environment for stored in found.examples.values()] == [1, 2]
    study, plan = begun(tmp_path / "m", SAMPLE, environment={"torch": "4"})  # known already
    study.commit(trajectory(plan.left[0], [0.25]))
    finalize(study)
    assert [stored.line.environment for stored in study.study.examples.values()] == [1, 2, 2]
    run = json.loads((tmp_path / "m" / "run.json").read_text())
    summary = json.loads((tmp_path / "m" / "training_summary.json").read_text())
    assert run["environments"] == summary["environments"] == [{"torch": "3"}, {"torch": "4"}]


def test_a_full_disk_takes_back_the_line_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, plan = begun(tmp_path / "m", SAMPLE)
    study.commit(trajectory(plan.left[0], [0.25]))
    before = (tmp_path / "m" / STORE).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=rf"{STORE} can't be written: No space left on device"):
            study.commit(trajectory(plan.left[1], [0.25]))
    assert (tmp_path / "m" / STORE).read_bytes() == before
    assert list(study.study.examples) == ["a.jpg"]
    study.commit(trajectory(plan.left[1], [0.25]))
    assert list(study.study.examples) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("number", range(1, 12))
def test_a_disk_that_is_full_while_the_exports_are_made_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    study, plan = begun(tmp_path / "m", SAMPLE, 10)
    for one in plan.left:
        study.commit(trained(one, 10))
    shutil.rmtree(tmp_path / "m" / "step_logs")
    replace, left = os.replace, [number]

    def full(source: str, target: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        if number <= 8:  # three step logs, table, config, run.json, picture, summary
            with pytest.raises(StorageError, match="can't be written: No space left on device"):
                finalize(study)
            assert not list((tmp_path / "m").rglob(".writing"))
            assert not is_complete(tmp_path / "m")
        else:
            finalize(study)
    study_of(tmp_path / "m", SAMPLE, 10)
    study_of(tmp_path / "undisturbed", SAMPLE, 10)
    assert logs(tmp_path / "m") == logs(tmp_path / "undisturbed")
    assert is_complete(tmp_path / "m")


@pytest.mark.parametrize("name", ["step_logs", "single_example_results.csv"])
def test_a_study_goes_on_where_it_can_not_be_shown(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    study, plan = begun(tmp_path / "m", SAMPLE)
    study.commit(trajectory(plan.left[0], [0.25]))
    (tmp_path / "m" / name).rename(tmp_path / "away")
    if name == "step_logs":
        (tmp_path / "m" / name).write_text("a file")
    for one in plan.left[1:]:
        study.commit(trajectory(one, [0.25]))
    assert caplog.text.count("can't be written") == 1
    assert "the study goes on, its table and step logs are made anew at the end" in caplog.text
    if name == "step_logs":
        (tmp_path / "m" / name).unlink()
    finalize(study)
    assert len(lines(tmp_path / "m")) == 4
    assert len(logs(tmp_path / "m")) == 3


def test_a_run_whose_folder_was_taken_away_does_not_write_into_the_next_one(tmp_path: Path) -> None:
    study = StudyFolder(tmp_path / "m")
    with study.locked():
        begin(study)
        study.commit(trajectory(SAMPLE[0], [0.25]))
        (tmp_path / "m").rename(tmp_path / "away")
        with StudyFolder(tmp_path / "m").locked():
            study_of(tmp_path / "m", sample_of(3), 10)
            before = exports(tmp_path / "m"), (tmp_path / "m" / STORE).read_bytes()
            for write in (lambda: study.commit(trajectory(SAMPLE[1], [0.25])), study.export):
                with pytest.raises(StorageError, match="it was moved or removed, or another run has it"):
                    write()
            assert (exports(tmp_path / "m"), (tmp_path / "m" / STORE).read_bytes()) == before


def begin(study: StudyFolder) -> None:
    other, _ = begun(study.folder, SAMPLE)
    found = other.find()
    assert found is not None
    study.begin(found, found.identity, found.environments[1], found.target, found.command)


def test_a_folder_that_has_turned_read_only_is_still_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    def fails() -> None:
        with StudyFolder(tmp_path / "m").locked():
            monkeypatch.setattr(Path, "unlink", refused)
            raise StorageError("the study's own")

    with pytest.raises(StorageError, match="the study's own"):
        fails()
    monkeypatch.undo()
    with StudyFolder(tmp_path / "m").locked():
        pass


def test_a_study_that_ends_before_its_first_example_leaves_the_folder_free(tmp_path: Path) -> None:
    study, _ = begun(tmp_path / "m", SAMPLE)
    study.discard()
    assert not list((tmp_path / "m").iterdir())
    study, _ = begun(tmp_path / "m", SAMPLE)
    study.commit(trajectory(SAMPLE[0], [0.25]))
    study.discard()
    assert len(lines(tmp_path / "m")) == 2


def test_what_is_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    study, plan = begun(tmp_path / "m", SAMPLE)
    for one in plan.left[:2]:
        study.commit(trained(one, 100))
    finalize(study)
    assert not is_complete(tmp_path / "m")
    study.commit(trained(plan.left[2], 100))
    assert not is_complete(tmp_path / "m")  # its exports don't have it
    finalize(study)
    assert is_complete(tmp_path / "m")
    (tmp_path / "m" / STORE).write_text("{")
    assert not is_complete(tmp_path / "m")
