"""Who trains what: each example is waiting, with one worker, or over. It knows nothing of processes."""

from collections import Counter, deque
from collections.abc import Iterable

from lightning_app.inputs.example import Example

AHEAD = 4
"""Examples that a worker is given beside those it takes at once, so that it doesn't wait for the next."""


class Leases:
    """Hands out examples, easiest first, and takes back those of a worker that is lost.

    A worker is kept in examples, a few ahead; when few are left nobody holds any that another could begin. Examples
    whose worker was lost with them come next: once among others, since machines fail. After that they are suspected and
    given out alone, so that if one takes another worker with it, that worker had nothing else in hand.

    Args:
        examples: To be trained, in the order in which they are handed out.
        workers: That share them; may be changed when one is gone for good.
        max_retries: How often an example is given out again after its worker was lost.
    """

    def __init__(self, examples: Iterable[Example], workers: int, max_retries: int) -> None:
        self._waiting = deque(examples)
        self._suspected: deque[Example] = deque()
        self._held: dict[int, dict[str, Example]] = {}
        self._lost: Counter[str] = Counter()
        self._losses_unsuspected = 1 if max_retries > 1 else 0  # the last try is always alone
        self.workers = workers
        self._max_retries = max_retries

    @property
    def waiting(self) -> int:
        """Examples that nobody has."""
        return len(self._waiting) + len(self._suspected)

    @property
    def held(self) -> int:
        """Examples that some worker has."""
        return sum(map(len, self._held.values()))

    def held_by(self, worker: int) -> list[Example]:
        """What a worker has, in the order in which it was handed out."""
        return list(self._held.get(worker, {}).values())

    def hand_out(self, worker: int, at_once: int, proven: bool = True) -> list[Example]:
        """What a worker gets now, perhaps nothing.

        Args:
            worker: Its number.
            at_once: How many examples it takes before the first has ended.
            proven: Whether it may be given suspected ones: if it is lost with one, it wasn't the worker's fault.
        """
        held = self._held.setdefault(worker, {})
        if any(self._is_suspected(path) for path in held):
            return []
        if self._suspected and not held and proven:
            lease = [self._suspected.popleft()]
        else:
            share = -(-(self.waiting + self.held) // self.workers)
            ahead = min(AHEAD, len(self._waiting) // (2 * self.workers))
            count = min(at_once + ahead, max(share, 1)) - len(held)
            lease = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        held.update((example.path, example) for example in lease)
        return lease

    def is_over(self, worker: int, path: str) -> Example:
        """Takes an example that has ended off a worker.

        Raises:
            KeyError: If the worker doesn't have it.
        """
        return self._held[worker].pop(path)

    def is_lost(self, worker: int, at_once: int) -> tuple[list[Example], list[Example]]:
        """Takes everything off a worker that is lost.

        Args:
            worker: Its number.
            at_once: Of its examples so many may have been in hand; the others it can't have begun.

        Returns:
            Those that were in hand and are given out again, and those that have been lost too often.
        """
        held = self.held_by(worker)
        self._held[worker] = {}
        in_hand, not_begun = held[:at_once], held[at_once:]
        self._waiting.extendleft(reversed(not_begun))
        self._lost.update(example.path for example in in_hand)
        given_up = [example for example in in_hand if self._lost[example.path] > self._max_retries]
        again = [example for example in in_hand if self._lost[example.path] <= self._max_retries]
        suspected = [example for example in again if self._is_suspected(example.path)]
        self._suspected.extend(suspected)
        self._waiting.extendleft(example for example in reversed(again) if example not in suspected)
        return again, given_up

    def _is_suspected(self, path: str) -> bool:
        return self._lost[path] > self._losses_unsuspected
