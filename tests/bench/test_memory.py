import mmap
from pathlib import Path

import pytest

from lightning_app.bench.memory import ProcessPeak, taken_by


def test_the_peak_grows_with_what_is_held_and_is_forgotten() -> None:
    peak = ProcessPeak()
    peak.begin()
    before = peak.bytes()
    if before is None:
        pytest.skip("this system doesn't tell a process's peak")
    with mmap.mmap(-1, 200_000_000) as block:  # what the allocator is given it may keep
        block.write(b"1" * len(block))
    after = peak.bytes()
    assert after is not None
    assert 150e6 < after - before < 400e6
    peak.begin()
    forgotten = peak.bytes()
    assert forgotten is not None
    assert forgotten < after - 100e6


def test_a_system_that_cannot_tell_is_none(tmp_path: Path) -> None:
    peak = ProcessPeak(tmp_path / "none")
    peak.begin()
    assert peak.bytes() is None
    (tmp_path / "status").write_text("VmRSS: 1 kB\n")
    peak = ProcessPeak(tmp_path)
    peak.begin()
    assert peak.bytes() is None
    (tmp_path / "status").write_text("VmPeak:\t 9 kB\nVmHWM:\t   12 kB\n")
    assert peak.bytes() == 12 * 1024


def test_what_is_taken_is_what_is_free_no_more() -> None:
    free = iter([1000, 300])
    assert taken_by(lambda: "engine", lambda: next(free)) == ("engine", 700)
