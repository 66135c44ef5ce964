"""Decodes images ahead of the slots, so that none waits for one."""

import functools
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch

from lightning_app.data.example import Example
from lightning_app.data.image import UnreadableImageError, read_pixels
from lightning_app.data.trajectory import Failure
from lightning_app.engines.slots.scheduler import Ready
from lightning_app.training.pretrained import Transform


class Decoded:
    """Examples with their images, in order.

    Args:
        examples: Taken when their images are about to be decoded; None where there is none for now.
        transform: timm's evaluation transform.
        should_stop: Whether to hand out no more; asked before each but the first.
        threads: That decode; 0 decodes an image when it is asked for.
        ahead: How many images they may be ahead.
        gpu: The images are put into memory that this one reads by itself.
    """

    def __init__(
        self,
        examples: Iterable[Example | None],
        transform: Transform,
        should_stop: Callable[[], bool],
        threads: int = 0,
        ahead: int = 1,
        gpu: torch.device | None = None,
    ) -> None:
        self._examples = iter(examples)
        self._transform = transform
        self._should_stop = should_stop
        self._ahead = ahead
        self._gpu = gpu
        # A thread that pins memory would otherwise set up the first GPU, which may be another one.
        initializer = None if gpu is None else functools.partial(torch.cuda.set_device, gpu)
        self._workers = ThreadPoolExecutor(threads, "decode", initializer) if threads else None
        self._coming: deque[Future[Ready | Failure]] = deque()
        self._is_first, self._is_over = True, False

    def __enter__(self) -> "Decoded":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._workers is not None:
            self._workers.shutdown(wait=True, cancel_futures=True)

    def take(self, wait: bool) -> Ready | Failure | None:
        """The next example; None if there is none, or if it isn't decoded yet and `wait` is false."""
        self._is_over = self._is_over or (not self._is_first and self._should_stop())
        if self._is_over:
            return None
        taken = self._decode_now() if self._workers is None else self._from(self._workers, wait)
        self._is_first = self._is_first and taken is None
        return taken

    def _decode_now(self) -> Ready | Failure | None:
        example = next(self._examples, None)
        return None if example is None else self._decode(example)

    def _from(self, workers: ThreadPoolExecutor, wait: bool) -> Ready | Failure | None:
        while len(self._coming) < self._ahead and (example := next(self._examples, None)) is not None:
            self._coming.append(workers.submit(self._decode, example))
        if not self._coming or not (wait or self._coming[0].done()):
            return None
        return self._coming.popleft().result()

    def _decode(self, example: Example) -> Ready | Failure:
        try:
            pixels = read_pixels(example.image, self._transform)
        except UnreadableImageError as error:
            return Failure(example, str(error))
        return Ready(example, pixels if self._gpu is None else pixels.pin_memory())
