"""What `evaluate` costs beside a bare batched loop over the same images.

    python scripts/cost_of_evaluating.py --models local-dir:A,local-dir:B --root_dir IMAGES

For each model in turn both are timed in this process, twice, the second time counts: the bare loop (timm's model and
transform, a DataLoader, argmax, a count) and all that `evaluate` does for a model, its table on the disk included.

    python scripts/cost_of_evaluating.py --allocator 5      [--models ...] [--root_dir ...] [--images 1000]

What the allocator's settings in lightning_app/process.py gain: the whole command in turns, five times as it is and five
times with glibc's allocator as it comes. Where none are named, the model is EfficientNet-Lite0 at 224 px with random
weights, and the images are made-up photographs.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import timm
import torch
from PIL import Image
from speed_of_the_engines import make_model
from torch.utils.data import DataLoader, Dataset

from lightning_app.data.model_names import split_models
from lightning_app.pool.evaluate import evaluate
from lightning_app.pool.image_folder import find_pool_images, label
from lightning_app.settings import EvaluationSettings
from lightning_app.training.device import Device
from lightning_app.training.pretrained import classes_of

CPU = Device(torch.device("cpu"), "cpu")
ROUNDS = 2


class Opened(Dataset[tuple[torch.Tensor, int]]):
    """Images as anyone would open them."""

    def __init__(self, files: list[Path], labels: list[int], transform: object) -> None:
        self.files, self.labels, self.transform = files, labels, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.files[place]) as image:
            return self.transform(image.convert("RGB")), self.labels[place]  # type: ignore[operator]


def bare(model: str, files: list[Path], labels: list[int], batch_size: int) -> int:
    """How many a model gets right."""
    network = timm.create_model(model, pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    right = 0
    with torch.no_grad():
        for pixels, y in DataLoader(Opened(files, labels, transform), batch_size):
            right += int((network(pixels).argmax(dim=1) == y).sum())
    return right


def make_photographs(folder: Path, count: int) -> Path:
    """Writes grainy JPEGs of the size of ImageNet's, in folders that are called as classes are numbered."""
    for i in range(count):
        rng = np.random.default_rng(i)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.float32)
        file = folder / str(i % 10) / f"{i:04}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        grainy = (smooth + rng.normal(0, 12, smooth.shape)).clip(0, 255)
        Image.fromarray(grainy.astype(np.uint8)).save(file, quality=90)
    return folder


COSTS = ("wall s", "user s", "system s", "MB at most")


def cost(command: list[str], environment: dict[str, str]) -> list[float]:
    """What a whole command takes, as COSTS has it."""
    start = time.perf_counter()
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return [wall, used.ru_utime, used.ru_stime, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)]


def compare_allocators(repeats: int, models: str, root_dir: Path, batch_size: int) -> None:
    """Prints a line a command, then medians and the median of the ratios turn by turn."""
    unset = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    # A user's own setting keeps ours out; this one is what glibc does anyway.
    ways = {"as it is": unset, "glibc as it comes": {**unset, "MALLOC_ARENA_TEST": "8"}}
    command = [sys.executable, "-m", "lightning_app", "evaluate", "--models", models, "--root_dir", str(root_dir),
               "--batch_size", str(batch_size), "--trainer.accelerator", "cpu", "--output_dir"]  # fmt: skip
    found: dict[str, list[list[float]]] = {way: [] for way in ways}

    def show(name: str, values: list[float], digits: int) -> None:
        print(f"{name:<26}", *(f"{value:>12.{digits}f}" for value in values), flush=True)

    print(" " * 26, *(f"{name:>12}" for name in COSTS), flush=True)
    for turn in range(repeats):
        for way in list(ways)[:: -1 if turn % 2 else 1]:
            with tempfile.TemporaryDirectory() as folder:
                found[way].append(cost([*command, f"{folder}/pool"], ways[way]))
            show(way, found[way][-1], 1)
    for way, costs in found.items():
        show(f"median, {way}", [median(column) for column in zip(*costs, strict=True)], 1)
    ours, plain = (np.array(costs) for costs in found.values())
    show("median ratio, turn by turn", list(np.median(ours / plain, axis=0)), 3)


def main() -> None:
    """Compares with a bare loop, or with another allocator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models")
    parser.add_argument("--root_dir", type=Path)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--allocator", type=int, metavar="REPEATS", help="compare allocators, the whole command each")
    parser.add_argument("--images", type=int, default=300, help="how many photographs are made up (default: 300)")
    asked = parser.parse_args()
    if asked.allocator is not None:
        with tempfile.TemporaryDirectory() as folder:
            models = asked.models or make_model("efficientnet_lite0", 224, Path(folder))
            root_dir = asked.root_dir or make_photographs(Path(folder, "photographs"), asked.images)
            compare_allocators(asked.allocator, models, root_dir, asked.batch_size)
    elif asked.models is None or asked.root_dir is None:
        parser.error("--models and --root_dir are needed without --allocator")
    else:
        compare_with_a_bare_loop(asked)


def compare_with_a_bare_loop(asked: argparse.Namespace) -> None:
    """Prints a line a model, and the ratio in all."""
    ratios, totals = [], [0.0, 0.0]
    for model in split_models(asked.models):
        times = [0.0, 0.0]
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                settings = EvaluationSettings(
                    models=model, root_dir=asked.root_dir, output_dir=Path(folder, "pool"), batch_size=asked.batch_size
                )
                images = find_pool_images(settings)
                files = [images.files[path] for path in images.paths]
                classes = timm.create_model(model, pretrained=True).num_classes
                of = label(images, settings, classes_of(classes)).of
                labels = [of[path] for path in images.paths]
                start = time.perf_counter()
                bare(model, files, labels, asked.batch_size)
                between = time.perf_counter()
                evaluate(settings, CPU)
                times = [between - start, time.perf_counter() - between]
        ratios.append(times[1] / times[0])
        totals = [a + b for a, b in zip(totals, times, strict=True)]
        print(f"{model}: bare {times[0]:.1f} s, evaluate {times[1]:.1f} s, {ratios[-1]:.2f} times")
    bare_s, ours_s = totals
    print(f"in all: {bare_s:.1f} s, {ours_s:.1f} s, {ours_s / bare_s:.2f} times (median {median(ratios):.2f})")


if __name__ == "__main__":
    main()
