"""Slots as CUDA graphs on a real GPU: the same bits as the plain loop's and as the Trainer's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
from PIL import Image

from lightning_app.cli import main
from lightning_app.data.example import Example
from lightning_app.data.image import read_pixels
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Trajectory
from lightning_app.engines.plain_loop import plain_loop
from lightning_app.engines.slots.engine import SlotsEngine, make_slots_engine
from lightning_app.engines.slots.graph_slot import CudaLane
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.training.classifier import Classifier
from lightning_app.training.device import pin_numerics
from lightning_app.training.pretrained import load_pretrained
from lightning_app.training.snapshot import Snapshot
from tests.conftest import MakeModel
from tests.torture import contents

pytestmark = pytest.mark.gpu

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def pinned() -> Iterator[None]:
    pin_numerics("cuda")
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Forty-eight smooth random photographs."""
    files = []
    for index in range(48):
        coarse = np.random.default_rng(index).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(files[-1])
    return files


def slots_of(model: str, lr: float, slots: int | None, precision: str = "32-true", **numbers: Any) -> SlotsEngine:
    pretrained = load_pretrained(model)
    trainer = L.Trainer(accelerator="gpu", devices=1, logger=False, precision=precision)  # type: ignore[arg-type]
    return make_slots_engine(
        Classifier(pretrained.network, lr, **numbers), pretrained.transform, Snapshot(pretrained.network, GPU),
        trainer.precision_plugin, GPU, slots,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("architecture", "model_args", "every", "slots"),
    [("test_resnet", {}, 1, 7), ("test_efficientnet", {}, 1, 7), ("test_vit", {"img_size": 32}, 12, 3)],
)
@pytest.mark.parametrize("numbers", [{}, {"momentum": 0.9, "weight_decay": 0.01}], ids=["plain", "momentum"])
def test_every_loss_is_the_plain_loops(
    make_model: MakeModel,
    images: list[Path],
    architecture: str,
    model_args: dict[str, object],
    every: int,
    slots: int,
    numbers: Any,
) -> None:
    """More examples than slots, some of them beyond 1,800 steps; few where each takes as many."""
    model, rule = make_model(architecture, **model_args), StopRule(0.003, 2500)
    examples = [Example(i, str(image), image, i % 4, i + 1) for i, image in enumerate(images[::every])]
    results = {r.example.index: r for r in slots_of(model, 0.002, slots, **numbers).train(examples, rule)}
    assert sorted(results) == list(range(len(examples)))
    pretrained = load_pretrained(model)
    snapshot = Snapshot(pretrained.network, GPU)
    classifier = Classifier(pretrained.network, 0.002, **numbers).eval().to(GPU)
    lengths = set()
    for example in examples[:: max(1, len(examples) // 12)]:
        pixels = read_pixels(example.image, pretrained.transform)[None].to(GPU)
        losses = plain_loop(classifier, pixels, torch.tensor([example.label], device=GPU), rule)
        result = results[example.index]
        assert isinstance(result, Trajectory)
        assert list(result.losses) == losses
        assert result.weight_distance == snapshot.distance()
        snapshot.restore()
        lengths.add(len(losses))
    assert len(lengths) > 2


def test_a_bf16_study_is_the_trainers(study: list[str]) -> None:
    more = ["--trainer.accelerator", "gpu", "--trainer.precision", "bf16-mixed"]
    assert main([*study, *more, "--engine", "trainer", "--output_dir", "trainer"]) == 0
    assert main([*study, *more, "--engine", "slots", "--slots", "3", "--output_dir", "slots"]) == 0
    assert contents(Path("trainer/tiny")) == contents(Path("slots/tiny"))


def test_auto_takes_slots_and_the_study_is_the_trainers(study: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    study += ["--trainer.accelerator", "gpu", "--max_examples", "20"]
    assert main([*study, "--engine", "trainer", "--output_dir", "trainer"]) == 0
    capsys.readouterr()
    assert main(study) == 0
    assert "each with a CUDA graph of its step" in capsys.readouterr().err
    assert contents(Path("trainer/tiny")) == contents(Path("outputs/tiny"))


def test_a_trainer_between_two_uses_of_the_slots_changes_nothing(make_model: MakeModel, images: list[Path]) -> None:
    """A Trainer's set-up frees workspaces of cuBLAS, and a graph must not have kept their address."""
    model, rule = make_model("test_vit", img_size=32), StopRule(0.01, 60)
    examples = [Example(i, str(image), image, i % 4, i + 1) for i, image in enumerate(images[:6])]
    slots = slots_of(model, 0.01, 3)
    before = {r.example.index: r.losses for r in slots.train(examples, rule) if isinstance(r, Trajectory)}
    pretrained = load_pretrained(model)
    classifier = Classifier(pretrained.network, 0.01)
    trainers = TrainerEngine(
        classifier, pretrained.transform,
        lambda callback: L.Trainer(
            accelerator="gpu", devices=1, max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[callback],
        ),
        Snapshot(pretrained.network, GPU),
    )  # fmt: skip
    between = {r.example.index: r.losses for r in trainers.train(examples, rule) if isinstance(r, Trajectory)}
    torch.empty(2**28, device=GPU).normal_()  # takes what was freed
    after = {r.example.index: r.losses for r in slots.train(examples, rule) if isinstance(r, Trajectory)}
    assert before == between == after


def test_a_step_that_waits_for_the_device_leaves_it_to_the_trainer(
    study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study += ["--trainer.accelerator", "gpu"]
    assert main([*study, "--engine", "trainer", "--output_dir", "trainer"]) == 0

    def waiting(images: torch.Tensor) -> torch.Tensor:
        images.sum().item()
        return images

    def patched(model_name: str) -> Any:
        pretrained = load_pretrained(model_name)
        pretrained.network.register_forward_pre_hook(lambda module, inputs: (waiting(inputs[0]),))
        return pretrained

    monkeypatch.setattr("lightning_app.study.prepare.load_pretrained", patched)
    assert main(study) == 0
    said = capsys.readouterr().err
    assert "slots don't work here: called a synchronizing CUDA operation" in said
    assert contents(Path("trainer/tiny")) == contents(Path("outputs/tiny"))


def test_as_many_as_pay_and_fit(make_model: MakeModel) -> None:
    engine = slots_of(make_model("test_resnet"), 0.01, None)
    assert 1 <= len(engine.scheduler.slots) <= len(engine.maker.slots) <= 32
    assert engine.steps_a_second is not None
    assert engine.steps_a_second > 0


def test_no_two_lanes_share_a_stream() -> None:
    taken: set[int] = set()
    lanes = [CudaLane(GPU, taken) for _ in range(40)]
    assert len(taken) == len(lanes)
    taken |= {torch.cuda.Stream(GPU, priority=p).cuda_stream for p in (0, -1) for _ in range(32)}  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="torch has no more than"):
        CudaLane(GPU, taken)
