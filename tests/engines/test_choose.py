"""Which engine a study takes, and that nobody can tell from its results."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_app.cli import main
from lightning_app.engines import choose as engines
from lightning_app.engines.slots import engine as slots_engine
from lightning_app.engines.slots.eager_slot import EagerSlot
from lightning_app.engines.slots.engine import SlotsEngine
from lightning_app.engines.slots.scheduler import Scheduler
from lightning_app.errors import BadInputError
from lightning_app.training.device import Device
from lightning_app.training.pretrained import load_pretrained
from lightning_app.training.trainers import TrainerMaker
from tests.torture import contents

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
PLAIN: dict[str, object] = {"callbacks": None, "plugins": None, "gradient_clip_val": None, "precision": None}


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--trainer.precision", "bf16-mixed"],
        ["--trainer.precision", "64-true"],
        ["--trainer.precision", "bf16-true"],
        ["--momentum", "0.5", "--weight_decay", "0.1"],
        ["--lr", "1e4"],
    ],
    ids=" ".join,
)
def test_the_reader_cannot_tell_the_engine(
    study: list[str], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    study = [*study, *flags, "--max_examples", "4"]
    assert main([*study, "--engine", "trainer", "--output_dir", "trainer"]) == 0
    assert main([*study, "--engine", "slots", "--output_dir", "slots"]) == 0
    said = capsys.readouterr().err
    assert "Engine: trainer, a Lightning Trainer an example\n" in said
    assert re.search(
        r"Engine: slots, one example at a time, without a Trainer; \d+ steps on noise are the plain l", said
    )
    assert re.search(r"\nSlots: 1, in steps \d+\.\d % of the time; the rest went to weights, images, files\n", said)
    trainer, slots = (contents(Path(name) / "tiny") for name in ("trainer", "slots"))
    assert trainer == slots
    assert len([name for name in trainer if name.startswith("step_logs/")]) == 4


def test_a_study_goes_on_with_the_other_engine(study: list[str]) -> None:
    assert main([*study, "--output_dir", "whole", "--engine", "trainer"]) == 0
    assert main([*study, "--max_examples", "3", "--engine", "slots"]) == 0
    assert main([*study, "--engine", "trainer"]) == 0
    assert contents(Path("outputs/tiny")) == contents(Path("whole/tiny"))


def test_plan_with_slots(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--max_examples", "10", "--pilot_examples", "10", "--max_steps_per_example", "20"]
    assert main(["plan", *study[1:], *more, "--engine", "slots"]) == 0
    assert capsys.readouterr().err.count("Engine: slots") == 1  # made once, for the probes and the pilot
    assert len(list(Path("outputs/tiny/step_logs").iterdir())) == 10


def test_auto_on_a_cpu(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*study, "--max_examples", "1"]) == 0
    assert "Engine: trainer, a Lightning Trainer an example (on a GPU it would be slots)\n" in capsys.readouterr().err


def test_slots_that_do_not_work_leave_it_to_the_trainer(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same numbers: the check that failed has moved the weights by then."""
    assert main([*study, "--output_dir", "trainer", "--trainer.precision", "bf16-true"]) == 0

    class Other(EagerSlot):
        def start(self, steps: int) -> None:
            self._optimizer.param_groups[0]["lr"] = 0.3
            super().start(steps)

    monkeypatch.setattr(slots_engine, "EagerSlot", Other)
    assert main([*study, "--engine", "slots", "--trainer.precision", "bf16-true"]) == 0
    said = capsys.readouterr().err
    assert re.search(r"warning: slots don't work here: step 2 has the loss \S+ and not the plain loop's \S+\n", said)
    assert "Engine: trainer, a Lightning Trainer an example, since slots don't work here" in said
    assert contents(Path("outputs/tiny")) == contents(Path("trainer/tiny"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--engine", "slots", "--trainer.gradient_clip_val", "1"],
         "--trainer.gradient_clip_val needs a Trainer for every example: --engine trainer honours it"),
        (["--engine", "slots", "--trainer.callbacks", "LearningRateMonitor"], "--trainer.callbacks needs a Trainer"),
        (["--engine", "slots", "--trainer.accumulate_grad_batches", "2"], "--trainer.accumulate_grad_batches"),
        (["--engine", "slots", "--trainer.profiler", "simple"], "--trainer.profiler"),
        (["--slots", "1"], "--slots 1: without a CUDA GPU there is one slot, by --engine slots, and this study trains"),
        (["--slots", "2", "--engine", "slots"], "--slots 2: without a CUDA GPU there is one slot"),
        (["--trainer.precision", "16-mixed"], "--trainer.precision 16-mixed needs a GPU; on a CPU bf16-mixed is what"),
        (["--engine", "slots", "--trainer.gradient_clip_algorithm", "value"], "--trainer.gradient_clip_algorithm n"),
        (["--slots", "0"], "--slots must be >= 1, got 0"),
        (["--engine", "trainer", "--slots", "1"], "--slots 1 is of --engine slots; --engine trainer has no slots"),
        (["--slots", "1", "--trainer.gradient_clip_val", "1"], "--trainer.gradient_clip_val has no slots"),
        (["--engine", "odd"], "--engine: got odd, expected one of 'auto', 'trainer', 'slots'"),
        (["--matmul_precision", "odd"], "--matmul_precision: got odd, expected one of 'highest', 'high', 'medium'"),
    ],
)  # fmt: skip
def test_flags_that_do_not_fit(
    study: list[str], argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*study, *argv]) == 2
    printed = capsys.readouterr().err.rstrip("\n")
    assert message in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert not Path("outputs").exists()


@pytest.mark.parametrize("precision", ["32-true", 32, "bf16-mixed", "64-true", None])
def test_precisions_of_slots(precision: object) -> None:
    assert engines.not_for_slots({**PLAIN, "precision": precision}) is None


@pytest.mark.parametrize("precision", ["16-mixed", 16, "transformer-engine"])
def test_precisions_that_wait_at_every_step(precision: object) -> None:
    flags = {**PLAIN, "precision": precision}
    assert engines.not_for_slots(flags) == f"--trainer.precision {precision}"
    with pytest.raises(BadInputError, match=f"--trainer.precision {precision} needs a Trainer for every"):
        engines.require_engine("slots", None, flags, CUDA)
    engines.require_engine("auto", None, flags, CUDA)


def test_a_gpu_may_have_slots() -> None:
    engines.require_engine("auto", 16, PLAIN, CUDA)
    engines.require_engine("slots", 1, PLAIN, CPU)


@pytest.mark.parametrize(
    ("kind", "flag", "expected"),
    [("cuda", None, "slots"), ("cuda", ["x"], "trainer"), ("cpu", None, "trainer"), ("mps", None, "trainer")],
)
def test_auto(kind: str, flag: object, expected: str, monkeypatch: pytest.MonkeyPatch, tiny_model: str,
              caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    """On a GPU slots, unless a flag needs Trainers: no GPU is needed to choose."""
    made = SlotsEngine(Scheduler([], 8), lambda image: torch.zeros(3, 1, 1), Any, 0, torch.device("cuda"), Any, 20)  # type: ignore[arg-type]
    trainer = object()
    monkeypatch.setattr(engines, "Snapshot", lambda *args: None)
    monkeypatch.setattr(engines, "make_slots_engine", lambda *args: made)
    monkeypatch.setattr(engines, "TrainerEngine", lambda *args: trainer)
    flags = {**PLAIN, "callbacks": flag}
    with caplog.at_level("INFO", "lightning_app"):
        training = engines.Training(
            engine="auto", slots=None, pretrained=load_pretrained(tiny_model), lr=0.1, weight_decay=0.0, momentum=0.0,
            flags=flags, make_trainer=TrainerMaker({"logger": False, "accelerator": "cpu"}), examples=9,
        )  # fmt: skip
        chosen: object = engines.one_device_engine(training, Device(torch.device(kind), kind))
    assert chosen is (made if expected == "slots" else trainer)
    assert caplog.messages[-1].startswith(f"Engine: {expected}")
    assert ("--trainer.callbacks" in caplog.text) == bool(flag)
    if expected == "slots":
        assert (
            "0 examples at once, each with a CUDA graph of its step, losses read every 8 steps (CUDA_DEVICE"
            in caplog.text
        )
