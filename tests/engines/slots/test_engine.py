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
    """What torch keeps for later is free too."""
    free, kept = 10 * SPARE_BYTES, SPARE_BYTES

    def empty_cache() -> None:
        nonlocal kept
        kept = 0

    monkeypatch.setattr(torch.cuda, "empty_cache", empty_cache)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - kept, 0))
    room = FreeMemory(torch.device("cuda"))
    free, kept = 6 * SPARE_BYTES, SPARE_BYTES  # two slots took two each
    assert room(2)
    free, kept = 3 * SPARE_BYTES + 1, SPARE_BYTES  # 7 by two, and one to spare, are more than this
    assert not room(2)
    kept = SPARE_BYTES
    assert room(4)


def test_how_busy_the_slots_were(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "x.png")
    slots = engine("replayed slots", OneParameter(-1), 0.5)
    assert isinstance(slots, SlotsEngine)
    assert slots.summary_line() is None
    list(slots.train([example(tmp_path / "x.png")], StopRule(0.1, 50)))
    slots.scheduler.usage = Usage(there=10.0, stepping=9.6, past_the_cut=0.15)
    assert (slots.summary_line() or "").startswith("Slots: 3, in steps 96.0 % of the time; ")
