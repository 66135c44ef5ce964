"""A real study by two workers on this machine, with real kills: the files are those of one device."""

import contextlib
import functools
import os
import random
import signal
import socket
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lightning_app.cli import main
from lightning_app.data.worker_state import WorkerState
from lightning_app.store.status import status_of
from tests.engines.workers.processes import (
    LOOPBACK,
    descendants,
    environment,
    listening,
    open_to_others,
    wait_until,
    workers,
)
from tests.engines.workers.studies import files, rows_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them"),
]


@dataclass
class Seen:
    """What an onlooker saw of a study while it ran."""

    killed: int = 0
    environments: list[dict[str, str]] = field(default_factory=list)
    listens: set[str] = field(default_factory=set)
    open_to_others: list[str] = field(default_factory=list)
    lines: tuple[WorkerState, ...] = ()
    folders: list[Path] = field(default_factory=list)
    exit_code: int = -1


@pytest.fixture(scope="module")
def watched(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Seen]:
    """A study by two workers, two of which are killed, with an onlooker."""
    folder, seen, dice = tmp_path_factory.mktemp("two"), Seen(), random.Random(1)
    before, start = set(Path("/tmp").glob("steps-to-epsilon-*")), time.time()

    def there_are(rows: int) -> bool:
        return rows_in(folder / "tiny") >= rows and len(workers(os.getpid())) == 2

    def look_on() -> None:
        for rows in (1, 5):
            if not wait_until(functools.partial(there_are, rows)):
                return
            if rows == 1:
                for pid in descendants(os.getpid()):
                    seen.environments.append(environment(pid))
                    seen.listens |= listening(pid)
                seen.listens |= listening(os.getpid())
                for top in {"/tmp", "/dev/shm", tempfile.gettempdir()}:
                    seen.open_to_others += open_to_others(Path(top), start)
                wait_until(
                    lambda: any(line.in_hand and line.steps_per_second for line in status_of(folder / "tiny").workers)
                )
                seen.lines = status_of(folder / "tiny").workers
                seen.folders = list(set(Path("/tmp").glob("steps-to-epsilon-*")) - before)
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(dice.choice(workers(os.getpid())), signal.SIGKILL)
                seen.killed += 1

    onlooker = threading.Thread(target=look_on)
    onlooker.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", "a secret")
        patch.setenv("WANDB_API_KEY", "a secret")
        patch.chdir(tmp_path_factory.mktemp("work"))
        seen.exit_code = main(["run", *flags, "--trainer.devices", "2", "--output_dir", str(folder)])
    onlooker.join()
    return folder / "tiny", seen


def test_workers_that_are_killed_change_nothing(watched: tuple[Path, Seen], by_one: dict[str, bytes]) -> None:
    folder, seen = watched
    assert (seen.exit_code, seen.killed) == (0, 2)
    assert files(folder) == by_one
    (log,) = folder.glob("train_single_*.log")
    text = log.read_text()
    lost = text.count(" was lost (")
    assert 1 <= lost <= 2  # one that is killed before it is ready is restarted by Ray in silence
    assert f"lost and started anew: {lost}" in text


def test_no_worker_is_told_a_secret(watched: tuple[Path, Seen]) -> None:
    seen = watched[1]
    assert len(seen.environments) >= 4  # two workers, Ray's own
    assert sum("PATH" in variables for variables in seen.environments) >= 4
    assert not any("a secret" in variables.values() for variables in seen.environments)


def test_nobody_listens_beyond_this_machine(watched: tuple[Path, Seen]) -> None:
    seen = watched[1]
    assert seen.listens
    assert seen.listens <= set(LOOPBACK)


def test_no_other_user_can_reach_a_file_of_the_workers(watched: tuple[Path, Seen]) -> None:
    seen = watched[1]
    assert seen.folders
    assert seen.open_to_others == []


def test_status_shows_the_workers_while_they_train(watched: tuple[Path, Seen]) -> None:
    folder, seen = watched
    assert [(line.worker, line.device, line.host) for line in seen.lines] == [
        (number, "cpu", socket.gethostname()) for number in (1, 2)
    ]
    assert any(line.in_hand and line.steps_per_second for line in seen.lines)
    assert status_of(folder).workers == ()
    assert not (folder / "workers.json").exists()


def test_it_leaves_no_process_and_no_folder(watched: tuple[Path, Seen]) -> None:
    seen = watched[1]
    assert seen.folders
    assert not any(folder.exists() for folder in seen.folders)
    assert wait_until(lambda: not any("ray" in words for words in descendants(os.getpid()).values()), 15)
