import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_app.errors import BadInputError
from lightning_app.store import lock
from lightning_app.store.lock import LOCK, WriterLock, is_held

HOLD = "import sys; from pathlib import Path; from lightning_app.store.lock import WriterLock; "
HOLD += "lock = WriterLock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 0.2)


def test_one_writer_a_folder(tmp_path: Path) -> None:
    first = WriterLock(tmp_path)
    assert is_held(tmp_path)
    with pytest.raises(BadInputError, match=rf"another run is writing to {tmp_path} \(process \d+ on .*\): wait for"):
        WriterLock(tmp_path)
    first.release()
    assert not is_held(tmp_path)
    assert not (tmp_path / LOCK).exists()
    WriterLock(tmp_path).release()


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    program = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert is_held(tmp_path)
        with pytest.raises(BadInputError, match=f"process {child.pid} on "):
            WriterLock(tmp_path)
        child.kill()
        child.wait()
    assert (tmp_path / LOCK).exists()
    assert not is_held(tmp_path)
    WriterLock(tmp_path).release()


def test_a_look_at_the_lock_does_not_keep_a_writer_out(tmp_path: Path) -> None:
    held = WriterLock(tmp_path)
    for _ in range(3):
        assert is_held(tmp_path)
    held.release()
    assert not is_held(tmp_path)
    assert not is_held(tmp_path / "nowhere")
    WriterLock(tmp_path).release()


def test_a_lock_that_was_taken_away_meanwhile_is_not_taken_for_one(tmp_path: Path) -> None:
    held = WriterLock(tmp_path)
    (tmp_path / LOCK).unlink()
    other = WriterLock(tmp_path)  # of the file that is there now
    held.release()
    assert is_held(tmp_path)
    other.release()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_file_that_was_replaced_before_it_could_be_locked_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, calls = fcntl.flock, [0]

    def late(descriptor: int, operation: int) -> None:
        calls[0] += 1
        if calls[0] == 1:  # its holder lets go, and a third process takes the folder and lets go too
            (tmp_path / LOCK).unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 5)
    held = WriterLock(tmp_path)
    assert calls[0] == 2
    assert held.is_in_place()
    assert is_held(tmp_path)
    held.release()


def test_a_folder_that_its_last_holder_has_just_taken_away_is_made_again(tmp_path: Path) -> None:
    held = WriterLock(tmp_path / "gone")
    assert held.is_in_place()
    held.release()
