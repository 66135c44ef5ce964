"""How many slots, how many steps at once: by rates that are made up."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from lightning.pytorch.plugins.precision import Precision

from lightning_app.engines.slots import how_many
from lightning_app.engines.slots.graph_slot import GraphSlot
from lightning_app.engines.slots.how_many import SlotMaker, SlotsUnavailableError, few_steps_at_once, fill, pace, why
from lightning_app.engines.slots.scheduler import Slot
from lightning_app.engines.slots.self_check import SelfCheck
from lightning_app.training.classifier import Classifier
from lightning_app.training.snapshot import Snapshot
from tests.engines.networks import InlineLane, OneParameter
from tests.engines.slots.stand_in import Clock, Shared, SharingSlot, StandIn


def maker(
    works: int = 99, room: int = 99, check: Callable[[Sequence[Slot]], str | None] = lambda slots: None
) -> SlotMaker:
    """Makes so many before one fails, and sees room for so many."""
    made: list[Slot] = []

    def make() -> Slot:
        if len(made) == works:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 90 MiB")
        made.append(StandIn(Clock()))
        return made[-1]

    return SlotMaker(make, check, lambda there: there < room)


def saturating(at: int) -> Callable[[Sequence[Slot]], float]:
    """A device that so many slots fill."""
    return lambda slots: 100.0 * min(len(slots), at)


@pytest.mark.parametrize(("at", "most", "expected"), [(1, 64, 1), (5, 64, 8), (16, 64, 16), (999, 64, 64), (999, 6, 6)])
def test_as_many_as_pay(at: int, most: int, expected: int) -> None:
    slots = maker()
    used = slots.as_many_as_pay(most, saturating(at))
    assert len(used) == expected
    assert used == slots.slots[:expected]
    assert len(slots.slots) <= min(2 * expected, most)


def test_what_does_not_fit_is_said_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lightning_app"):
        assert not maker(works=3).grow(8)
        assert "only 3, the next one failed: CUDA out of memory. Tried to allocate 90 MiB" in caplog.text
        assert len(maker(works=3).as_many_as_pay(64, saturating(99))) == 3
        assert len(maker(room=5).as_many_as_pay(64, saturating(99))) == 5
    assert "the memory holds 5" in caplog.text


def test_not_even_one() -> None:
    with pytest.raises(SlotsUnavailableError, match="out of memory"):
        maker(works=0).grow(4)
    with pytest.raises(SlotsUnavailableError, match="step 3 has"):
        maker(check=lambda slots: "step 3 has the loss 1").as_many_as_pay(4, saturating(4))


def test_a_slot_that_fails_its_check_is_not_used() -> None:
    seen: list[Slot] = []
    slots = maker(check=lambda these: seen.extend(these) or ("another loss" if len(seen) == 3 else None))  # type: ignore[func-returns-value]
    assert not slots.grow(8)
    assert (slots.slots, slots.failed) == (seen[:2], seen[2:])  # which is kept: no graph goes while others live
    assert not slots.grow(8)  # it is not tried again
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("rates", "expected"),
    [([100, 100, 100, 100], 4), ([50, 99, 100, 100], 8), ([50, 90, 95, 100], 32), ([90, 90, 100, 99], 16)],
)
def test_few_steps_at_once(rates: list[float], expected: int) -> None:
    assert few_steps_at_once(lambda count: rates[(4, 8, 16, 32).index(count)]) == expected


def test_pace() -> None:
    clock = Clock()
    slots = [StandIn(clock, seconds_a_step=0.001) for _ in range(4)]
    measured = pace(slots, 8, torch.tensor(math.inf).nan_to_num(posinf=1e9), clock)
    assert measured == pytest.approx(4000, rel=0.1)
    assert all(slot.steps % 8 == 0 and slot.steps >= 296 for slot in slots)


def real(network: torch.nn.Module | None = None, room: int = 99) -> tuple[SlotMaker, SelfCheck]:
    """Slots that replay their step and are checked, with a stand-in for the GPU."""
    classifier = Classifier((network or OneParameter(-1)).eval(), 0.1)
    snapshot = Snapshot(classifier.network)
    check = SelfCheck(classifier, snapshot, Precision(), (3, 2, 2))
    return SlotMaker(
        lambda: GraphSlot(classifier, snapshot, Precision(), (3, 2, 2), InlineLane()),
        lambda slots: check.difference(slots, 8),
        lambda there: there < room,
    ), check


@pytest.mark.parametrize(("asked_for", "examples", "slots"), [(3, 99, 3), (5, 2, 2), (None, 1, 1), (None, 99, 2)])
def test_fill(asked_for: int | None, examples: int, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in that does all at once, twice as many slots bring nothing: the limit is the room of two."""
    monkeypatch.setattr(how_many, "SECONDS", 0.01)
    monkeypatch.setattr(how_many, "WORTH_IT", 0.0)
    maker, check = real(room=2 if asked_for is None else 99)
    filled = fill(maker, check.pixels, asked_for, examples, None)
    assert (len(filled.slots), filled.steps_at_once in how_many.STEPS_AT_ONCE) == (slots, True)
    assert filled.steps_a_second > 0


def test_fill_with_a_step_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(how_many, "SECONDS", 0.01)
    maker, check = real()
    assert fill(maker, check.pixels, 2, 99, 1).steps_at_once == 1


def test_slots_that_disturb_each_other_are_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(how_many, "SECONDS", 0.01)
    clock = Clock()
    disturbed = SlotMaker(
        lambda: StandIn(clock), lambda slots: "step 2 has another loss" if len(slots) > 1 else None, lambda there: True
    )
    monkeypatch.setattr(how_many, "pace", lambda slots, steps_at_once, pixels: 100.0 * len(slots))
    filled = fill(disturbed, torch.tensor(1.0), 3, 99, None)
    assert (list(filled.slots), filled.steps_a_second) == (disturbed.slots[:1], 100.0)
    assert "slots: only 1, since of 3 that run side by side step 2 has another loss" in caplog.text


@pytest.mark.parametrize(("limit", "alone", "slots"), [(3000, 200, 16), (300, 60, 8), (100, 30, 4)])
def test_slots_that_share_a_device(limit: float, alone: float, slots: int) -> None:
    """They end together: a part of a round says nothing. Twice as many pay until the device is full."""
    device = Shared(limit, alone)

    def rate(these: Sequence[Slot], steps_at_once: int = 8) -> float:
        return pace(these, steps_at_once, torch.zeros(1), device.clock)

    for count in (1, 2, 4, 8, 16, 32):
        expected = min(limit, alone * count)
        assert rate([SharingSlot(device) for _ in range(count)]) == pytest.approx(expected, rel=0.02)
    sharing = SlotMaker(lambda: SharingSlot(device), lambda these: None, lambda there: True)
    used = sharing.as_many_as_pay(32, rate)
    assert len(used) == slots
    assert few_steps_at_once(lambda steps_at_once: rate(used, steps_at_once)) == 4


def test_the_first_error_of_a_chain_is_told() -> None:
    """As of a capture, whose end says only that something failed before."""
    last = RuntimeError("failed due to a previous error")
    last.__context__ = ValueError("an op that\n  can't be captured")
    assert why(last) == "an op that can't be captured"
    assert why(KeyError()) == "KeyError"


def test_a_network_whose_steps_depend_on_more_than_its_numbers_is_found() -> None:
    class Drifting(OneParameter):
        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1  # no parameter and no buffer: nothing puts it back
            return super().forward(images) * (1 + self.calls)

    with pytest.raises(SlotsUnavailableError, match=r"step 1 has the loss \S+ and not the plain loop's"):
        real(Drifting(-1))[0].grow(1)
