"""What the engine adds to its slots: room in memory, words for the log."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from lightning_app.data.stop_rule import StopRule
from lightning_app.engines.slots.engine import SPARE_BYTES, FreeMemory, SlotsEngine
from lightning_app.engines.slots.scheduler import Usage
from tests.engines.networks import OneParameter, engine, example


def test_there_is_room_for_another_like_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    free, emptied = 10 * SPARE_BYTES, list[int]()
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 0))
    room = FreeMemory(torch.device("cuda"))
    free = 6 * SPARE_BYTES  # two slots took two each
    assert room(2)
    free = 3 * SPARE_BYTES + 1  # 7 by two, and one to spare, are more than this
    assert not room(2)
    assert room(4)
    assert len(emptied) == 4  # what torch keeps for later is free too


def test_how_busy_the_slots_were(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "x.png")
    slots = engine("replayed slots", OneParameter(-1), 0.5)
    assert isinstance(slots, SlotsEngine)
    assert slots.summary_line() is None
    list(slots.train([example(tmp_path / "x.png")], StopRule(0.1, 50)))
    assert (slots.summary_line() or "").startswith("Slots: 3, in steps ")
    slots.scheduler.usage = Usage(there=10.0, stepping=9.6, past_the_cut=0.15)
    said = "Slots: 3, in steps 96.0 % of the time; the rest went to weights, images, files and the end, when no example"
    assert slots.summary_line() == f"{said} was left"


def test_what_it_says_of_itself() -> None:
    slots = engine("slot", OneParameter(-1), 0.5)
    assert isinstance(slots, SlotsEngine)
    expected = "slots, one example at a time, without a Trainer; 20 steps on noise are the plain loop's, bit for bit"
    assert slots.describe() == expected
    assert slots.steps_a_second is None
