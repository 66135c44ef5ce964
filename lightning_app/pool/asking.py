"""One model of the pool, asked about every image."""

import errno
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_app.errors import BadInputError
from lightning_app.inputs.image import UnreadableImageError, read_pixels
from lightning_app.training.loss import is_correct, is_in_top, precise_loss
from lightning_app.training.pretrained import Pretrained, Transform

TOP = 5
PASSING = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)
"""Troubles of the machine, not of an image: the model is asked again another time."""
START_METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Of the processes that decode. This one has threads: a lock that one of them holds stays taken in a fork of it."""


@dataclass(frozen=True)
class Asked:
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
def ask_about_all(
    pretrained: Pretrained,
    files: Sequence[Path],
    labels: Sequence[int],
    device: torch.device,
    batch_size: int,
    num_workers: int,
    on_images: Callable[[int], object],
) -> Asked:
    """Asks one model about every image, in batches, with the model's own evaluation transform.

    Args:
        pretrained: The model; its network is left on the device.
        files: The images.
        labels: Class indices, in the order of the files.
        device: Where it is asked.
        batch_size: Images in one forward pass.
        num_workers: Processes that decode; 0 decodes here.
        on_images: Called with a number of images when they are done, for a progress bar.

    Raises:
        BadInputError: If the transform can't go to other processes that are to decode.
    """
    network, n = pretrained.network.to(device), len(files)
    predicted, correct, top5 = np.zeros(n, np.int64), np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    losses, readable = np.full(n, np.nan, np.float32), np.zeros(n, np.bool_)
    top = min(TOP, pretrained.classes.count)
    accuracies = [MulticlassAccuracy(pretrained.classes.count, top_k=k, average="micro").to(device) for k in (1, top)]
    unreadable: dict[int, str] = {}
    loader = DataLoader(
        _Decoded(files, pretrained.transform),
        batch_size,
        num_workers=num_workers,
        multiprocessing_context=START_METHOD if num_workers else None,
        collate_fn=_collate,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_the_end_to_the_parent,
    )
    targets = torch.as_tensor(labels)
    for places, pixels, reasons in _from_processes(loader, pretrained.transform) if num_workers else loader:
        unreadable.update(reasons)
        if len(places):
            y = targets[places].to(device)
            logits = network(pixels.to(device, non_blocking=True)).float()
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
    return Asked(readable, predicted, correct, losses, top5, (top1, top_few), unreadable)


def _without_nan(logits: Tensor, labels: Tensor) -> Tensor:
    """The same, but where there is a NaN the label has the smallest logit: NaN is wrong."""
    wrong = torch.zeros_like(logits).scatter_(1, labels[:, None], -1.0)
    return torch.where(logits.isnan().any(dim=1, keepdim=True), wrong, logits)


Decoded = tuple[int, Tensor | str]
Batch = tuple[Tensor, Tensor, dict[int, str]]


class _Decoded(Dataset[Decoded]):
    """Images, or the reasons why they can't be read, with their places."""

    def __init__(self, files: Sequence[Path], transform: Transform) -> None:
        self.files = files
        self.transform = transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Decoded:
        try:
            return place, read_pixels(self.files[place], self.transform)
        except UnreadableImageError as error:
            cause = error.__cause__
            if isinstance(cause, MemoryError) or (isinstance(cause, OSError) and cause.errno in PASSING):
                raise
            return place, str(error)


def _collate(decoded: Sequence[Decoded]) -> Batch:
    read = [(place, pixels) for place, pixels in decoded if isinstance(pixels, Tensor)]
    reasons = {place: reason for place, reason in decoded if isinstance(reason, str)}
    places = torch.tensor([place for place, _ in read], dtype=torch.int64)
    return places, torch.stack([pixels for _, pixels in read]) if read else torch.empty(0), reasons


def _from_processes(loader: "DataLoader[Decoded]", transform: Transform) -> Iterator[Batch]:
    """The batches of a loader that has processes."""
    if START_METHOD == "forkserver":
        _start_server()
    # They need nothing of the program that has called, and would run it once more to import it.
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        pickle.dumps(transform)
        with _signals_put_off():  # they would cut short what the processes are told
            batches = iter(loader)
    except (pickle.PicklingError, AttributeError, TypeError) as error:  # what pickle says, by Python's version
        raise BadInputError(
            f"--num_workers {loader.num_workers}: the model's transform can't go to other processes ({error});"
            " --num_workers 0 decodes in this one"
        ) from error
    finally:
        sys.modules["__main__"] = main
    try:
        yield from batches
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # it had something to hand over
        raise RuntimeError("a process that decodes images exited unexpectedly") from error


@contextmanager
def _signals_put_off() -> Iterator[None]:
    """Lets what ends the command wait for the end of the block."""
    if threading.current_thread() is not threading.main_thread():  # signals come in that one alone
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for known, handler in before.items():
            signal.signal(known, handler)
        for number in came:
            signal.raise_signal(number)


def _start_server() -> None:
    """Starts the process that the decoders are forks of, if it isn't there: it has one thread, and has imported this.

    It ends when this process does.
    """
    own = {
        "OPENBLAS_NUM_THREADS": "1",  # NumPy would start threads when it is imported
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONSAFEPATH": "1",  # not what happens to lie in the current folder
    }
    before = {name: os.environ.get(name) for name in own}
    resource_tracker.ensure_running()  # starts with the server, and would unblock the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is for this process to answer
    try:
        os.environ.update(own)
        forkserver.set_forkserver_preload([__name__])
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    first = get_context("forkserver").Process(target=int)
    first.start()  # waits until the server is ready, and may be interrupted
    first.join()


def _leave_the_end_to_the_parent(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Only a thread that hands images to the parent comes here: it says so when that has ended in the middle of it.
    sys.excepthook = lambda *error: None
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = parent_process()  # not the server, which PyTorch watches and which ends only after its forks
    assert parent is not None
    parent.join()
    os._exit(0)
