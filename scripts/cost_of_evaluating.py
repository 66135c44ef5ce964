"""What `evaluate` costs beside a bare batched loop over the same images.

    python scripts/cost_of_evaluating.py --models local-dir:A,local-dir:B --root_dir IMAGES

For each model in turn both are timed in this process, twice, the second time counts: the bare loop (timm's model and
transform, a DataLoader, argmax, a count) and all that `evaluate` does for a model, its table on the disk included.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from lightning_app.inputs.model_list import split_models
from lightning_app.pool.evaluating import evaluate
from lightning_app.pool.image_folder import find, label
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


def main() -> None:
    """Prints a line a model, and the ratio in all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", required=True)
    parser.add_argument("--root_dir", type=Path, required=True)
    parser.add_argument("--batch_size", type=int, default=64)
    asked = parser.parse_args()
    ratios, totals = [], [0.0, 0.0]
    for model in split_models(asked.models):
        times = [0.0, 0.0]
        for _ in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                settings = EvaluationSettings(
                    models=model, root_dir=asked.root_dir, output_dir=Path(folder, "pool"), batch_size=asked.batch_size
                )
                images = find(settings)
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
