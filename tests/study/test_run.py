"""A study that is stopped, goes on, grows, or meets what it can't use."""

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as L
import numpy as np
import pytest
import yaml

import lightning_app.study.run
import lightning_app.study.session
from lightning_app.cli import main
from lightning_app.console import signals as stopping
from lightning_app.console.signals import stop_between_examples
from lightning_app.data import environment
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.store.lock import WriterLock
from tests.commands.test_run import OUT, cut_after, rows, steps
from tests.conftest import MakeModel
from tests.store.test_tensorboard import scalars
from tests.torture import contents, started

RESULTS = OUT / "single_example_results.csv"
LOG = OUT / "study.jsonl"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that were given to the engine, in their order."""
    paths: list[str] = []
    train = TrainerEngine.train

    def noting(self: TrainerEngine, examples: Any, *more: Any) -> Iterator[Any]:
        paths.extend(example.path for example in examples)
        return train(self, examples, *more)

    monkeypatch.setattr(TrainerEngine, "train", noting)
    return paths


def undisturbed(study: list[str], *more: str) -> dict[str, bytes]:
    """What an undisturbed study leaves."""
    assert main([*study, *more, "--output_dir", "undisturbed"]) == 0
    return contents(Path("undisturbed/tiny"))


def interrupt(study: list[str], examples: int) -> None:
    """Leaves a study as a kill would, after some examples."""
    assert main(study) == 0
    cut_after(OUT, examples)


def test_a_complete_study_is_kept(study: list[str], trained: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(study) == 0
    before, table, log = contents(OUT), RESULTS.read_bytes(), LOG.read_bytes()
    trained.clear()
    assert main(study) == 0
    assert not trained
    assert (RESULTS.read_bytes(), LOG.read_bytes()) == (table, log)
    assert contents(OUT) == before
    assert capsys.readouterr().err.count("Outcomes: ") == 2


def test_an_interrupted_study_becomes_the_one_that_would_have_been(
    study: list[str], trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = undisturbed(study)
    interrupt(study, 2)
    shutil.rmtree(OUT / "tensorboard")
    kept = rows()
    trained.clear()
    assert main(study) == 0
    assert contents(OUT) == expected
    assert rows()[:2] == kept  # seconds too: they were not trained again
    assert trained == [row["path"] for row in rows()[2:]]
    assert "2 of 6 examples done" in capsys.readouterr().err


def test_a_study_grows(study: list[str], trained: list[str]) -> None:
    study = [*study, "--max_steps_per_example", "12"]
    expected = undisturbed(study, "--max_examples", "12")
    assert main(study) == 0
    first = {row["path"]: row["seconds"] for row in rows()}
    trained.clear()
    assert main([*study, "--max_examples", "12"]) == 0
    assert contents(OUT) == expected
    assert len(trained) == 6
    assert first.items() <= {row["path"]: row["seconds"] for row in rows()}.items()
    every = scalars(OUT / "tensorboard" / "all_examples")["study/steps"]
    assert list(every.items()) == [(int(row["example_index"]), float(row["steps_run"])) for row in rows()]
    theirs, ours = ({f.name for f in (o / "tensorboard").iterdir()} for o in (Path("undisturbed/tiny"), OUT))
    assert ours == theirs
    for row in rows():
        (run,) = (OUT / "tensorboard").glob(f"*_example_{row['example_index']}")
        assert len(scalars(run)["step_loss/loss"]) == len(steps(OUT, row))


def test_a_smaller_sample_is_the_beginning_of_the_draw_and_deletes_nothing(
    study: list[str], trained: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = undisturbed(study, "--max_examples", "3")
    assert main(study) == 0
    before = contents(OUT)
    trained.clear()
    assert main([*study, "--max_examples", "3"]) == 0
    assert not trained
    assert "3 more rows are not in this sample" in capsys.readouterr().err
    after = contents(OUT)
    assert {**after, "summary": b"", "picture": b""} == {**before, "summary": b"", "picture": b""}
    assert after["picture"] == expected["picture"]  # the answer is that of the three
    assert json.loads(after["summary"])["statistics"] == json.loads(expected["summary"])["statistics"]
    assert main(study) == 0
    assert contents(OUT) == before


def test_more_steps_train_the_censored_alone_again(study: list[str], trained: list[str]) -> None:
    expected = undisturbed(study)
    assert main([*study, "--max_steps_per_example", "5"]) == 0
    censored = [row["path"] for row in rows() if row["outcome"] == "censored"]
    assert 0 < len(censored) < 6
    trained.clear()
    assert main(study) == 0
    assert trained == censored
    assert contents(OUT) == expected
    assert len([run for run in (OUT / "tensorboard").iterdir() if "example_" in run.name]) == 6


def test_while_the_limits_differ_all_rows_are_taken_as_they_stood_at_the_smaller(
    study: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study, "--max_steps_per_example", "4"]) == 0
    expected = json.loads((OUT / "training_summary.json").read_text())["statistics"]
    points = (OUT / "steps_vs_difficulty.png").read_bytes()
    assert main([*study, "--max_hours", "1e-9"]) == 143
    limits = {int(row["steps_run"]) for row in rows()}
    assert min(limits) == 4 < max(limits)
    assert (OUT / "steps_vs_difficulty.png").read_bytes() == points
    summary = json.loads((OUT / "training_summary.json").read_text())
    assert summary["statistics"] == expected
    assert summary["counts"]["done"] < summary["counts"]["sampled"]
    assert "warning: some rows were censored at 4 steps" in capsys.readouterr().err


def test_fewer_steps_than_were_trained_for_are_refused(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(study) == 0
    before = contents(OUT)
    assert main([*study, "--max_steps_per_example", "29"]) == 2
    assert re.search(r"error: --max_steps_per_example 29: .* up to 30 steps", capsys.readouterr().err)
    assert contents(OUT) == before
    (target,) = (line for line in LOG.read_text().splitlines() if line.startswith('{"kind":"target"'))
    with LOG.open("a") as stream:  # what a run leaves that is killed before its first example
        stream.write(json.dumps({**json.loads(target), "max_steps_per_example": 100_000}) + "\n")
    assert main(study) == 0
    assert json.loads((OUT / "run.json").read_text())["trained_for"] == 30


def keys(content: dict[str, Any], before: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every key of nested objects: its name, the object that holds it, its last part."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from keys(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", content, key


def test_every_key_of_the_identity_is_looked_at(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*study, "--max_examples", "1"]) == 0
    whole = LOG.read_text()
    first, others = whole.split("\n", 1)
    content = json.loads(first)
    names = []
    for name, holder, key in [*keys(content["identity"])]:
        if name != "epsilon":  # which is a number, or the log can't be read
            holder[key] = "another"
            names.append(name)
    assert len(names) > 25
    LOG.write_text(f"{json.dumps(content)}\n{others}")
    capsys.readouterr()
    assert main([*study, "--max_examples", "1"]) == 2
    told = capsys.readouterr().err
    assert [name for name in names if f'{name} was "another", is ' not in told] == []
    LOG.write_text(whole)
    (OUT / "run.json").write_text("an export, for people to read")
    assert main([*study, "--max_examples", "1"]) == 0


def test_a_flag_that_changes_the_numbers_is_refused_with_old_and_new(
    study: list[str], make_model: MakeModel, capsys: pytest.CaptureFixture[str]
) -> None:
    study += ["--max_examples", "1", "--max_steps_per_example", "2"]
    assert main(study) == 0
    before = contents(OUT)
    lines = Path("ranking.csv").read_text().split()
    Path("other.csv").write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    np.save("m.npy", np.zeros((1, 40)))
    Path("models.csv").write_text("tiny")
    matrix = ["--correctness_npy", "m.npy", "--imagenet_models_csv", "models.csv", "--model_csv_name", "tiny"]
    for flags, told in (
        (["--lr", "0.06"], "optimizer.lr was 0.05, is 0.06"),
        (["--weight_decay", "0.1"], "optimizer.weight_decay was 0.0, is 0.1"),
        (["--momentum", "0.5"], "optimizer.momentum was 0.0, is 0.5"),
        (["--epsilon", "0.5"], "epsilon was 0.1, is 0.5"),
        (["--seed", "43"], "seed was 42, is 43"),
        (["--select", "all"], 'select was "wrong", is "all"'),
        (["--trainer.precision", "64-true"], 'lightning.precision was null, is "64-true"'),
        (["--examples_csv", "other.csv"], "ranking_sha256 was "),
        (matrix, 'correctness was "the model itself", is "row tiny, sha256 '),
        (["--model_name", make_model("test_efficientnet", "tiny")], "weights_sha256 was "),
    ):
        assert main([*study, *flags]) == 2
        assert f"it has another identity: {told}" in capsys.readouterr().err
    assert contents(OUT) == before


def test_what_the_numbers_do_not_depend_on_may_change(study: list[str], photographs: Path, tmp_path: Path) -> None:
    assert main([*study, "--max_examples", "2"]) == 0
    shutil.copytree(photographs, tmp_path / "elsewhere")
    flags = ["--root_dir", str(tmp_path / "elsewhere"), "--tensorboard_examples", "1", "--max_examples", "3"]
    assert main([*study, *flags]) == 0
    assert len(rows()) == 3


def test_another_environment_is_refused_unless_it_is_allowed_and_then_named(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = undisturbed(study)
    interrupt(study, 4)
    versions = environment.versions()
    monkeypatch.setattr(environment, "versions", lambda: {**versions, "torch": "9.9"})
    assert main(study) == 2
    here = versions["torch"]
    assert f'torch was "{here}", is "9.9"' in capsys.readouterr().err
    assert main([*study, "--allow_mixed_environment"]) == 0
    assert "2 environments" in capsys.readouterr().err
    assert {**contents(OUT), "summary": b""} == {**expected, "summary": b""}
    summary = json.loads((OUT / "training_summary.json").read_text())
    assert [environment["torch"] for environment in summary["environments"]] == [here, "9.9"]
    lines = [json.loads(line) for line in LOG.read_text().splitlines()]
    assert [line["environment"] for line in lines if line["kind"] == "example"] == [1, 1, 1, 1, 2, 2]
    assert main(study) == 2  # a mixed study stays one
    config = yaml.safe_load((OUT / "config.yaml").read_text())
    assert (config["allow_mixed_environment"], config["max_hours"]) == (False, None)  # meant for once


def test_a_second_run_is_refused_while_the_first_lives(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    OUT.mkdir(parents=True)
    lock = WriterLock(OUT)
    assert main([*study, "--dry_run"]) == 2
    assert f"--output_dir: another run is writing to {OUT} (process {os.getpid()} on " in capsys.readouterr().err
    lock.release()
    assert main([*study, "--dry_run"]) == 0


def test_after_so_many_hours_it_stops_and_the_same_command_goes_on(
    study: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = undisturbed(study)
    for done in (1, 2):
        assert main([*study, "--max_hours", "1e-9"]) == 143
        summary = json.loads((OUT / "training_summary.json").read_text())
        assert summary["counts"]["done"] == len(rows()) == done
        assert f"stopped by --max_hours: {done} of 6 examples are done, the easiest ones" in capsys.readouterr().err
    assert main([*study, "--max_hours", "99"]) == 0
    assert contents(OUT) == expected
    assert main([*study, "--max_examples", "12", "--max_hours", "1e-9"]) == 143
    assert "stopped by --max_hours: 7 of 12 examples are done; " in capsys.readouterr().err  # and not the easiest ones


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_study_after_the_example_in_hand_and_it_goes_on(
    study: list[str], number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    study = [*study, "--max_examples", "5", "--epsilon", "1e-6", "--max_steps_per_example", "30"]
    expected = undisturbed(study)

    def send() -> None:
        while not (RESULTS.exists() and RESULTS.read_text().count("\n") > 2):
            time.sleep(0.01)
        time.sleep(0.1)  # into the middle of the next example, where Lightning would answer SIGTERM its own way
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    assert main(study) == 128 + number
    sender.join()
    printed = capfd.readouterr().err
    table = rows()
    counts = json.loads((OUT / "training_summary.json").read_text())["counts"]
    assert 1 < len(table) == counts["done"] < counts["sampled"]
    assert all(len(steps(OUT, row)) == int(row["steps_run"]) for row in table)
    again = "again" if number in (signal.SIGINT, signal.SIGTERM) else "Ctrl-C"
    assert f"{number.name}: stopping after what is in hand ({again}: at once)" in printed
    assert f"stopped by {number.name}: {len(table)} of 5 examples are done" in printed
    assert "Traceback" not in printed
    assert main(study) == 0
    assert contents(OUT) == expected


def test_a_second_signal_ends_it_at_once(study: list[str]) -> None:
    study = [*study, "--epsilon", "1e-6", "--max_steps_per_example", "10000000"]
    with started(study, Path("said")) as program:
        while program.poll() is None and not RESULTS.exists():
            time.sleep(0.01)
        time.sleep(1)
        program.terminate()
        time.sleep(0.5)
        assert program.poll() is None  # ten million steps of the example in hand
        program.send_signal(signal.SIGINT)
        assert program.wait() == 130
    printed = Path("said").read_text()
    assert "stopped at once" in printed
    assert "Traceback" not in printed
    assert rows() == []
    assert not (OUT / "step_logs").exists()


def test_a_signal_that_was_ignored_at_the_start_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts a program
    try:
        stop = stopping.StopSignal("")
        with stop_between_examples(stop):
            stop.on_train_start(L.Trainer(logger=False, accelerator="cpu"), L.LightningModule())
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.came is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_each_signal_is_noted_and_ctrl_c_and_sigterm_end_it_at_once_when_they_come_again(
    number: signal.Signals,
) -> None:
    """A lost connection or a batch system may say so twice."""

    def ended(code: int) -> NoReturn:
        raise SystemExit(code)

    handlers = [signal.getsignal(each) for each in stopping.SIGNALS]
    stop = stopping.StopSignal("")
    stop.exit_now = ended
    with stop_between_examples(stop):
        os.kill(os.getpid(), number)
        assert stop.came is number
        assert stop.should_stop()
        if number in (signal.SIGINT, signal.SIGTERM):
            with pytest.raises(SystemExit, match=str(128 + number)):
                os.kill(os.getpid(), number)
        else:
            os.kill(os.getpid(), number)
    assert [signal.getsignal(each) for each in stopping.SIGNALS] == handlers


def test_two_hours_are_two_hours_of_the_study(study: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines = []

    def noting(stop: stopping.StopSignal, has_workers: bool) -> Any:
        assert not has_workers
        deadlines.append(stop.deadline - time.monotonic())
        return stop_between_examples(stop)

    monkeypatch.setattr(lightning_app.study.session, "stop_between_examples", noting)
    assert main([*study, "--max_examples", "1", "--max_hours", "2"]) == 0
    assert 7000 < deadlines[0] <= 7200
    assert main([*study, "--max_examples", "1", "--max_hours", "1e-9"]) == 0  # nothing is left: the study is done
    assert main([*study, "--max_examples", "2", "--max_hours", "1e-9"]) == 0


class TermAtStart(L.Callback):
    """Sends SIGTERM while Lightning sets an example's Trainer up."""

    sent = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loader = trainer.datamodule.train_dataloader  # type: ignore[attr-defined]

        def sending() -> Any:
            if not TermAtStart.sent and len(rows()) == 2:
                TermAtStart.sent = True
                os.kill(os.getpid(), signal.SIGTERM)
            return loader()

        trainer.datamodule.train_dataloader = sending  # type: ignore[attr-defined]


def test_a_signal_while_lightning_sets_itself_up_loses_no_example(study: list[str]) -> None:
    study += [f"--trainer.callbacks+={TermAtStart.__module__}.{TermAtStart.__qualname__}"]
    TermAtStart.sent = True
    expected = undisturbed(study)
    TermAtStart.sent = False
    assert main(study) == 143
    assert TermAtStart.sent
    assert len(rows()) == 3
    assert main(study) == 0
    assert contents(OUT) == expected


def test_a_dry_run_says_what_a_run_would_find(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    interrupt(study, 2)
    before = sorted(OUT.rglob("*"))
    capsys.readouterr()
    assert main([*study, "--dry_run"]) == 0
    assert "2 of 6 examples done" in capsys.readouterr().err
    assert main([*study, "--dry_run", "--lr", "1"]) == 0
    assert "warning: a run would be refused: --output_dir: outputs/tiny holds a study" in capsys.readouterr().err
    assert sorted(OUT.rglob("*")) == before


def test_an_image_that_was_mended_is_trained_after_all(study: list[str], photographs: Path, tmp_path: Path) -> None:
    expected = undisturbed(study)
    root = tmp_path / "root"
    shutil.copytree(photographs, root)
    victim = rows(Path("undisturbed/tiny"))[1]["path"].rpartition("val/")[2]
    study = [*study, "--root_dir", str(root)]
    whole = (root / victim).read_bytes()
    (root / victim).write_bytes(whole[:100])
    for _ in range(2):
        assert main(study) == 3
        assert [row["outcome"] for row in rows()].count("error") == 1
        assert len(rows()) == 6
    (root / victim).write_bytes(whole)
    assert main(study) == 0
    assert {**contents(OUT), "summary": b""} == {**expected, "summary": b""}


@pytest.mark.parametrize("version", ["newer", "earlier"])
def test_a_study_that_can_not_be_read_is_refused_before_the_model_is_loaded(
    study: list[str], version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = [*study, "--max_examples", "2"]
    assert main(study) == 0
    capsys.readouterr()
    if version == "newer":
        LOG.write_text(LOG.read_text().replace('"format":3', '"format":4'))
    else:
        LOG.unlink()
        old = {"format": 2, "stretches": [{"environment": {"steps-to-epsilon": "0.9.0"}, "paths": None}]}
        (OUT / "run.json").write_text(json.dumps(old))
    before = {file.relative_to(OUT): file.read_bytes() for file in OUT.rglob("*") if file.is_file()}
    assert main(study) == 2
    printed = capsys.readouterr().err
    assert {"newer": "study.jsonl, line 1: it has format 4", "earlier": "steps-to-epsilon 0.9.0"}[version] in printed
    assert "Model: " not in printed
    assert {file.relative_to(OUT): file.read_bytes() for file in OUT.rglob("*") if file.is_file()} == before
    assert main([*study, "--overwrite", "--epsilon", "0.5"]) == 0
    assert len(rows()) == 2
    (aside,) = Path("outputs").glob("tiny.old-*")
    assert {file.relative_to(aside): file.read_bytes() for file in aside.rglob("*") if file.is_file()} == before


def test_a_disk_that_is_full_is_one_clear_error_and_the_study_goes_on(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = undisturbed(study)
    write, written = os.write, [0]

    def full(descriptor: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == LOG.name:
            written[0] += 1
            if written[0] >= 4:
                if written[0] == 4:
                    return write(descriptor, data[: len(data) // 2])
                raise OSError(28, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert main(study) == 1
    printed = capsys.readouterr().err
    last = printed.strip().splitlines()[-1]
    message = "outputs/tiny/study.jsonl can't be written: No space left on device"
    assert last.startswith(f"steps-to-epsilon run: error: {message}")
    assert "rerun the command to resume" in last
    assert "Traceback" not in printed
    assert len(rows()) == LOG.read_bytes().count(b'{"kind":"example"') == 2
    assert LOG.read_bytes().endswith(b"}\n")  # what was written of the third is taken back
    assert main(study) == 0
    assert contents(OUT) == expected
