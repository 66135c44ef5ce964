"""Studies whose driver is stopped or killed, or that lose a machine of a cluster: the files are those of one device."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_app.cli import main
from tests.engines.workers.processes import descendants, is_alive, wait_until, workers
from tests.engines.workers.studies import EXAMPLES, files, rows_in, start

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them"),
]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_all_ends_it_everywhere_and_one_device_goes_on(
    flags: list[str], by_one: dict[str, bytes], tmp_path: Path, number: signal.Signals
) -> None:
    study = start(tmp_path, [*flags, "--trainer.devices", "2"])
    assert wait_until(lambda: rows_in(tmp_path / "tiny") >= 2)
    below = descendants(study.pid)
    os.killpg(study.pid, number)  # as a terminal does, when Ctrl-C is pressed or the connection is lost
    assert study.stderr is not None
    said = study.stderr.read()
    assert study.wait(30) == 128 + number, said
    assert f"stopped by {number.name}" in said
    assert "was lost" not in said
    assert "Traceback" not in said
    assert wait_until(lambda: not any(map(is_alive, below)), 15)
    done = rows_in(tmp_path / "tiny")
    assert 2 <= done < EXAMPLES
    assert main(["run", *flags, "--output_dir", str(tmp_path)]) == 0
    assert files(tmp_path / "tiny") == by_one


def test_a_driver_that_is_killed_leaves_no_process_and_two_workers_go_on(
    flags: list[str], by_one: dict[str, bytes], tmp_path: Path
) -> None:
    study = start(tmp_path, [*flags, "--trainer.devices", "2"])
    assert wait_until(lambda: rows_in(tmp_path / "tiny") >= 2)
    below = descendants(study.pid)
    study.kill()
    study.wait()
    trains = [pid for pid, words in below.items() if words.startswith("ray::StudyWorker") or "/raylet" in words]
    assert len(trains) == 3
    assert wait_until(lambda: not any(map(is_alive, trains)), 30)  # Ray's agents, which do nothing, take a minute more
    assert main(["run", *flags, "--trainer.devices", "2", "--output_dir", str(tmp_path)]) == 0
    assert files(tmp_path / "tiny") == by_one


@contextlib.contextmanager
def node(where: Path, env: dict[str, str], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A node of a cluster, as `ray start` makes it."""
    ray = Path(sys.executable).with_name("ray")
    command = [str(ray), "start", "--block", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
    process = subprocess.Popen(
        [*command, *options], env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        below = descendants(process.pid)
        for pid in (process.pid, *below):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def test_a_study_on_two_nodes_outlives_one_of_them(
    flags: list[str], by_one: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Path(tempfile.mkdtemp(prefix="cluster-", dir="/tmp"))  # Ray's sockets need a short path
    token = where / "token"
    token.write_text(secrets.token_hex(32))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    open_to_all = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    env = {**open_to_all, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    address = f"127.0.0.1:{port}"
    asked = [*flags, "--ray_address", address]
    try:
        with (
            node(where, env, "--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={where}") as head,
            contextlib.ExitStack() as second,
        ):
            assert wait_until(lambda: _answers(port))
            other = second.enter_context(node(where, env, f"--address={address}"))
            assert wait_until(lambda: any("raylet" in words for words in descendants(other.pid).values()))
            study = start(tmp_path, asked, env)
            assert wait_until(lambda: rows_in(tmp_path / "tiny") >= 4, 120)
            assert (len(workers(head.pid)), len(workers(other.pid))) == (1, 1)
            second.close()
            assert study.stderr is not None
            said = study.stderr.read()
            assert study.wait(60) == 0, said
            assert "on a cluster of 2 CPUs on 2 machines" in said
            assert said.count(" was lost (") == 1
            assert files(tmp_path / "tiny") == by_one
            stranger = start(tmp_path / "stranger", asked, {**open_to_all, "RAY_AUTH_MODE": "token",
                             "RAY_AUTH_TOKEN": "0" * 64})  # fmt: skip
            assert stranger.stderr is not None
            said = stranger.stderr.read()
            assert stranger.wait(120) == 2
            assert f"--ray_address {address}: no cluster answers there" in said
            assert "Traceback" not in said
    finally:
        shutil.rmtree(where, ignore_errors=True)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False
