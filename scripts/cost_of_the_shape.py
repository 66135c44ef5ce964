"""Measures what the design costs: a Trainer for every example, reading a ranking, starting up.

    python scripts/cost_of_the_shape.py

Ratios are medians of interleaved repeats in this one process, in CPU time on one thread; compare them, not the times.
"""

import argparse
import gc
import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import lightning.pytorch as L
import timm
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from lightning_app.commands.run import Run
from lightning_app.data.example import Example
from lightning_app.data.image import read_image
from lightning_app.data.images import find_images
from lightning_app.data.ranking import read_ranking
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Trajectory
from lightning_app.engines.trainer import TrainerEngine
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import CommandLine, Stored, Target, example_line
from lightning_app.store.tensorboard import Curves, TensorBoardFolder
from lightning_app.training.classifier import Classifier
from lightning_app.training.datamodule import Repeated
from lightning_app.training.loss import precise_loss
from lightning_app.training.snapshot import Snapshot
from lightning_app.training.trainers import quieten_lightning

LR = 1e-3
NEVER = 1e-30  # an epsilon that isn't reached: every example takes all its steps


def to_tensor(image: Image.Image) -> Tensor:
    """A transform without a network's own."""
    pixels: Tensor = pil_to_tensor(image).float() / 255 - 0.5
    return pixels


class Bare(L.LightningModule):
    """The least that Lightning can train."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The same loss."""
        return precise_loss(self.network(batch[0]), batch[1]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=LR)


def trainer_flags() -> dict[str, object]:
    """Every extra switched off."""
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return {"accelerator": "cpu", "devices": 1, "max_epochs": 1, **dict.fromkeys(off, False)}


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(repeats: int, **works: Callable[[], object]) -> dict[str, float]:
    """Medians of interleaved repeats."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(cpu_seconds(work))
    return {name: statistics.median(values) for name, values in times.items()}


def trainer_engine(network: torch.nn.Module, run: Run) -> TrainerEngine:
    """The Trainer path."""
    trainers = run.trainers.for_an_example()
    return TrainerEngine(Classifier(network, LR), to_tensor, lambda callback: trainers([callback]), Snapshot(network))


def training(folder: Path, size: int, steps: int, repeats: int) -> None:
    """The Trainer path against the plain loop a step, and against a bare Trainer an example.

    Each of the three reads the image, as any way of training has to; the plain loop is taken off the fixed costs.
    """
    network = timm.create_model("test_resnet", num_classes=10).eval()
    file = folder / "x.png"
    Image.effect_noise((size, size), 60).convert("RGB").save(file)
    example = Example(0, "x", file, 3, 1)

    def read() -> tuple[Tensor, Tensor]:
        return to_tensor(read_image(file))[None], torch.tensor([3])

    def plain(count: int) -> None:
        image, _ = read()
        optimizer = torch.optim.SGD(network.parameters(), lr=LR)
        for _ in range(count):
            z = network(image)
            d = z - z[:, 3:4]
            loss = torch.nn.functional.softplus(
                torch.logsumexp(torch.cat([d[:, :3], d[:, 4:]], dim=1), dim=1)
            ).squeeze()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            loss.item()

    run = Run(["--trainer.accelerator", "cpu"])
    flags = trainer_flags()
    engine = trainer_engine(network, run)

    def ours(count: int) -> None:
        assert [result.outcome for result in engine.train([example], StopRule(NEVER, count))] == ["censored"]

    def bare(count: int) -> None:
        L.Trainer(**flags).fit(Bare(network), Repeated(read(), count))  # type: ignore[arg-type]

    for warm in (plain, ours, bare):
        warm(3)
    long = compare(repeats, plain=lambda: plain(steps + 1), ours=lambda: ours(steps + 1), bare=lambda: bare(steps + 1))
    short = compare(8 * repeats, plain=lambda: plain(1), ours=lambda: ours(1), bare=lambda: bare(1))
    step = {name: (long[name] - short[name]) / steps for name in long}
    print(f"test_resnet at {size} px, {steps} steps, {repeats} repeats, one thread")
    for name, value in step.items():
        print(f"  {name:<6}{1e3 * value:8.2f} ms a step   {1e3 * short[name]:8.2f} ms an example of one step")
    fixed = {name: short[name] - short["plain"] for name in short}
    print(f"  a step: Trainer path / plain loop = {step['ours'] / step['plain']:.3f}  (at most 1.15)")
    print(f"  fixed cost an example: Trainer path / bare Trainer = {fixed['ours'] / fixed['bare']:.3f}  (at most 1.3)")


def watching(folder: Path, steps: int, repeats: int) -> None:
    """What an example's curve in TensorBoard costs, against its training at 32 px, where a step is cheapest."""
    network = timm.create_model("test_resnet", num_classes=10).eval()
    file = folder / "z.png"
    Image.effect_noise((32, 32), 60).convert("RGB").save(file)
    run = Run(["--trainer.accelerator", "cpu"])
    engine = trainer_engine(network, run)
    rule = StopRule(NEVER, steps)
    example = Example(steps, "z", file, 3, 1)
    (result,) = engine.train([example], rule)
    assert isinstance(result, Trajectory)
    stored = Stored(example_line(result, 1), result.losses[-1], 1, 0, 0)
    study = StudyFolder(folder / f"study_{steps}")
    committed = (replace(result, example=replace(example, index=n, path=str(n))) for n in itertools.count())
    with study.locked(), Curves([TensorBoardFolder(folder / "tensorboard")], frozenset({"z"}), 1) as curves:
        study.begin(None, {"epsilon": NEVER}, {}, Target(steps, ((1, "z"),)), CommandLine("", {}, {}))
        times = compare(
            repeats,
            train=lambda: list(engine.train([example], rule)),
            show=lambda: curves.add(stored, steps, result.losses),
        )
        # In wall time: a commit waits for the disk.
        start = time.perf_counter()
        for _ in range(repeats):
            study.commit(next(committed))
        times["commit"] = (time.perf_counter() - start) / repeats
    for what, name in (("TensorBoard: the curve", "show"), ("Disk: the line, its row and its step log", "commit")):
        print(
            f"{what} of {steps} steps takes {1e3 * times[name]:.1f} ms,"
            f" {100 * times[name] / times['train']:.2f} % of its training  (at most 2)"
        )


def memory(folder: Path, examples: int) -> None:
    """Peak memory after the first hundred examples and after all."""
    network = timm.create_model("test_resnet", num_classes=10).eval()
    file = folder / "y.png"
    Image.effect_noise((32, 32), 60).convert("RGB").save(file)
    run = Run(["--trainer.accelerator", "cpu"])
    engine = trainer_engine(network, run)
    peaks = []
    made_up = (Example(i, str(i), file, 3, i) for i in range(examples))
    for count, _ in enumerate(engine.train(made_up, StopRule(NEVER, 3)), start=1):
        if count in (100, examples):
            gc.collect()
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"memory: peak {peaks[0]:.0f} MB after 100 examples, {peaks[1]:.0f} MB after {examples}")


def ranking(folder: Path, images: int) -> None:
    """Reading the published form and matching it with a folder."""
    paths = [f"n{i % 1000:08}/ILSVRC2012_val_{i:08}.JPEG" for i in range(images)]
    for i in range(1000):
        (folder / "val" / f"n{i:08}").mkdir(parents=True)
    for path in paths:
        (folder / "val" / path).touch()
    file = folder / "ranking.csv"
    file.write_text('"' + ",".join(f"/elsewhere/val/{path}" for path in paths) + '"')
    start = time.perf_counter()
    found = find_images(read_ranking(file).paths, folder / "val")
    print(f"ranking: {len(found.files)} paths read and matched in {time.perf_counter() - start:.2f} s  (at most 2)")


def start_up(repeats: int) -> None:
    """Wall time of whole processes."""
    program = [sys.executable, "-m", "lightning_app"]
    commands = {
        "imports alone": [sys.executable, "-c", "import torch, timm, lightning.pytorch"],
        "run --help": [*program, "run", "--help"],
        "--help": [*program, "--help"],
        "--version": [*program, "--version"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        print(f"start-up: {name:<14}{statistics.median(values):6.2f} s")


def main() -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--examples", type=int, default=600)
    options = parser.parse_args()
    quieten_lightning()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training(folder, options.size, options.steps, options.repeats)
        for steps in (20, 100, 500):
            watching(folder, steps, options.repeats)
        memory(folder, options.examples)
        ranking(folder, 50_000)
    start_up(options.repeats)


if __name__ == "__main__":
    main()
