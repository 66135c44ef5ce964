"""How a worker of a study is doing, as the screen and `status` show it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WorkerState:
    """How a worker is doing.

    Args:
        worker: Its number, from 1.
        host: Its machine.
        device: The model of its GPU; the kind itself elsewhere.
        state: `starting`, `at work`, `idle`, or `gone` when it is not to come back.
        steps_per_second: Since it was started; None before its first report.
        done: Examples that it has ended.
        lost: How often its process was lost.
        in_hand: Paths of the examples that it has begun.
    """

    worker: int
    host: str
    device: str
    state: str
    steps_per_second: float | None
    done: int
    lost: int
    in_hand: tuple[str, ...]

    def describe(self) -> str:
        """One line."""
        rate = "" if self.steps_per_second is None else f", {self.steps_per_second:.1f} steps/s"
        lost = f", lost {self.lost} times" if self.lost else ""
        more = f" and {len(self.in_hand) - 1} more" if len(self.in_hand) > 1 else ""
        what = f"{self.in_hand[0]}{more}" if self.in_hand else self.state
        where = f" ({self.device} on {self.host})" if self.host else ""
        return f"worker {self.worker}{where}{rate}, {self.done} done{lost}: {what}"
