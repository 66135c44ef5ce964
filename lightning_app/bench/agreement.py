"""Whether two ways to train give the same numbers, bit for bit."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from lightning_app.bench.runners import Ended


@dataclass(frozen=True)
class Difference:
    """Where two ways first part on an example.

    Args:
        engine: That differs.
        example: The example's index.
        step: From 1.
        loss: The engine's; None if it has taken fewer steps.
        expected: The reference's; None if that has taken fewer.
        outcome: The engine's.
        expected_outcome: The reference's.
    """

    engine: str
    example: int
    step: int
    loss: float | None
    expected: float | None
    outcome: str
    expected_outcome: str


def differences(engine: str, ended: Mapping[int, Ended], reference: Mapping[int, Ended]) -> list[Difference]:
    """The examples that both have trained on and whose losses, counts or outcomes are not the same.

    Args:
        engine: The name of the way that is compared.
        ended: Its answers.
        reference: What they should be.
    """
    found = []
    for index in sorted(ended.keys() & reference.keys()):
        ours, theirs = ended[index], reference[index]
        step = _first_difference(ours, theirs)
        if step is not None:
            found.append(
                Difference(engine, index, step, _loss(ours, step), _loss(theirs, step), ours.outcome, theirs.outcome)
            )
    return found


def _first_difference(ours: Ended, theirs: Ended) -> int | None:
    for step in range(1, max(len(ours.losses), len(theirs.losses)) + 1):
        if _bits(_loss(ours, step)) != _bits(_loss(theirs, step)):
            return step
    return None if ours.outcome == theirs.outcome else len(ours.losses)


def _loss(ended: Ended, step: int) -> float | None:
    return ended.losses[step - 1] if step <= len(ended.losses) else None


def _bits(loss: float | None) -> bytes | None:
    # NaN is NaN, whatever its payload; 0.0 and -0.0 are two.
    return None if loss is None else b"nan" if loss != loss else struct.pack("d", loss)
