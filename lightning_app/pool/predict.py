"""One model of the pool, asked about every image."""

import errno
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from lightning_app.data.image import UnreadableImageError, read_pixels
from lightning_app.training.loss import is_correct, is_in_top, precise_loss
from lightning_app.training.pretrained import Pretrained, Transform

TOP = 5
PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)
"""Troubles of the machine, not of an image: the model is asked again another time."""
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class ModelPredictions:
    """What one model says of N images.

    Args:
        readable: Whether an image could be read; where not, the numbers below are 0 or NaN. Shape (N,), as all others.
        predicted: The class with the largest logit.
        correct: 1 where the label's logit is above every other, else 0.
        losses: Cross-entropies, float32.
        top5: 1 where fewer than five other classes have a logit at or above the label's.
        accuracy: Top-1 and top-5 (of all classes where there are fewer), by torchmetrics, over the readable ones.
        unreadable: Why, by the image's place.
    """

    readable: npt.NDArray[np.bool_]
    predicted: npt.NDArray[np.int64]
    correct: npt.NDArray[np.uint8]
    losses: npt.NDArray[np.float32]
    top5: npt.NDArray[np.uint8]
    accuracy: tuple[float, float]
    unreadable: dict[int, str]


@torch.no_grad()
def predict_all(
    pretrained: Pretrained,
    files: Sequence[Path],
    labels: Sequence[int],
    device: torch.device,
    batch_size: int,
    num_workers: int,
    on_images: Callable[[int], object],
) -> ModelPredictions:
    """Asks one model about every image, in batches, with the model's own evaluation transform.

    Args:
        pretrained: The model; its network is left on the device.
        files: The images.
        labels: Class indices, in the order of the files.
        device: Where it is asked.
        batch_size: Images in one forward pass.
        num_workers: Threads that decode; 0 decodes here.
        on_images: Called with a number of images when they are done, for a progress bar.
    """
    network, n = pretrained.network.to(device), len(files)
    predicted, correct, top5 = np.zeros(n, np.int64), np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    losses, readable = np.full(n, np.nan, np.float32), np.zeros(n, np.bool_)
    top = min(TOP, pretrained.classes.count)
    accuracies = [MulticlassAccuracy(pretrained.classes.count, top_k=k, average="micro").to(device) for k in (1, top)]
    unreadable: dict[int, str] = {}
    targets = torch.as_tensor(labels)
    with closing(_batches(files, pretrained.transform, batch_size, num_workers)) as batches:
        for places, pixels, reasons in batches:
            unreadable.update(reasons)
            if len(places):
                y = targets[places].to(device)
                logits = network(_to(pixels, device)).float()
                for accuracy in accuracies:
                    accuracy.update(_without_nan(logits, y), y)
                at = places.numpy()
                readable[at] = True
                predicted[at] = logits.argmax(dim=1).cpu().numpy()
                correct[at] = is_correct(logits, y).cpu().numpy()
                losses[at] = precise_loss(logits, y).cpu().numpy()
                top5[at] = is_in_top(logits, y, top).cpu().numpy()
            on_images(len(places) + len(reasons))
    top1, top_few = (float(accuracy.compute()) if readable.any() else float("nan") for accuracy in accuracies)
    return ModelPredictions(readable, predicted, correct, losses, top5, (top1, top_few), unreadable)


def _without_nan(logits: Tensor, labels: Tensor) -> Tensor:
    """The same, but where there is a NaN the label has the smallest logit: NaN is wrong."""
    wrong = torch.zeros_like(logits).scatter_(1, labels[:, None], -1.0)
    return torch.where(logits.isnan().any(dim=1, keepdim=True), wrong, logits)


DecodedImage = Tensor | str
"""An image, or the reason why it can't be read."""
ImageBatch = tuple[Tensor, Tensor, dict[int, str]]
"""The places of the images that could be read, their pixels, and why others could not be by their places."""


def _batches(
    files: Sequence[Path], transform: Transform, batch_size: int, threads: int
) -> Generator[ImageBatch, None, None]:
    """All images in order, a few batches of them decoded ahead where threads do that."""
    # Not processes: forks of one with threads can hang, others take seconds to begin, and Pillow lets threads decode
    # and scale side by side.
    batches = [range(start, min(start + batch_size, len(files))) for start in range(0, len(files), batch_size)]
    if not threads:
        yield from (_batch(places, [_decode(files[place], transform) for place in places]) for places in batches)
        return
    coming: deque[tuple[range, list[Future[DecodedImage]]]] = deque()
    pool = ThreadPoolExecutor(threads, "decode", torch.set_num_threads, (1,))  # that number is each thread's own
    try:
        for places in batches:
            coming.append((places, [pool.submit(_decode, files[place], transform) for place in places]))
            if len(coming) > BATCHES_AHEAD:
                yield _next(coming)
        while coming:
            yield _next(coming)
    finally:
        pool.shutdown(cancel_futures=True)


def _next(coming: deque[tuple[range, list[Future[DecodedImage]]]]) -> ImageBatch:
    places, decoded = coming.popleft()
    return _batch(places, [image.result() for image in decoded])


def _decode(file: Path, transform: Transform) -> DecodedImage:
    try:
        return read_pixels(file, transform)
    except UnreadableImageError as error:
        cause = error.__cause__
        if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in PASSING):
            raise
        return str(error)


def _batch(places: Sequence[int], decoded: Sequence[DecodedImage]) -> ImageBatch:
    read = [(place, image) for place, image in zip(places, decoded, strict=True) if isinstance(image, Tensor)]
    reasons = {place: image for place, image in zip(places, decoded, strict=True) if isinstance(image, str)}
    pixels = torch.stack([image for _, image in read]) if read else torch.empty(0)
    return torch.tensor([place for place, _ in read], dtype=torch.int64), pixels, reasons


def _to(pixels: Tensor, device: torch.device) -> Tensor:
    """Pixels on a device; memory that a GPU reads by itself is copied while the next images are taken."""
    return pixels.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else pixels.to(device)
