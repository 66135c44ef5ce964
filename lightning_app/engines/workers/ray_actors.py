"""The workers' processes, by Ray: on this machine alone, or on a cluster that runs already.

Ray places the workers, carries the task to each machine once, restarts those that are lost and gives them their
examples again, and ends them with the driver.
"""

import contextlib
import functools
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Result
from lightning_app.engines.workers.worker import RefusedError, StudyWorker, Task, Worker, WorkerReport
from lightning_app.errors import BadInputError, WorkersError

log = logging.getLogger("lightning_app")

INSTALL = "pip install 'steps-to-epsilon[ray]'"

PASSED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|VIRTUAL_ENV|CONDA_PREFIX|PYTHON[A-Z]+|PWD"
    r"|(LD|DYLD)_LIBRARY_PATH|LD_PRELOAD|GLIBC_TUNABLES|MALLOC_\w+|(OMP|KMP|GOMP|MKL|OPENBLAS|ATEN|ONEDNN|DNNL)_\w+"
    r"|(CUDA|NVIDIA|CUBLAS|CUDNN|TORCH|PYTORCH|TORCHINDUCTOR|TRITON)_\w+|XDG_CACHE_HOME"
)
"""Environment variables that a worker on this machine is given: what programs need to run, and no one's secrets."""
SECRET = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|KEY", re.IGNORECASE)

RAY_QUIET = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray would print of lost workers: the study's own log says it
    "RAY_USAGE_STATS_ENABLED": "0",
}
LOOPBACK_ONLY = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's name for: this machine's address is 127.0.0.1
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",  # as the command itself; by default it is 15, and a busy machine starves them
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # how long its processes outlive a driver that was killed
}
OF_A_CLUSTER = {
    "RAY_NUM_REDIS_GET_RETRIES": "2",  # how often it asks the cluster's head, half a minute each time
    "RAY_BACKEND_LOG_LEVEL": "error",  # what it says of each time; the error says it too
}
CONNECT_SECONDS = 5.0
LAST_CALLS_SECONDS = 2.0
SPARE_BYTES = 100 * 2**20
"""Bytes of Ray's object store beside the task."""
REASON_LENGTH = 300
MAX_RESTARTS = 100
"""Of a worker: one that can't even be constructed is given up some time."""
FOR_THE_DRIVER = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def require_ray(address: str | None) -> None:
    """Refuses to go on without Ray, or where nothing listens at a cluster's address: Ray would try for minutes.

    Args:
        address: HOST:PORT of a cluster, `auto`, or None: no cluster.

    Raises:
        BadInputError: With what to do.
    """
    if importlib.util.find_spec("ray") is None:
        raise BadInputError(f"several workers need Ray, which is not installed: {INSTALL}")
    if address not in (None, "auto"):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise BadInputError(f"--ray_address {address}: nothing answers there: {error}") from error


@contextlib.contextmanager
def local_workers(task: Task, gpus: Sequence[int | None], max_retries: int) -> Iterator["RayActors"]:
    """A worker for each of some devices of this machine, by a Ray of their own that nobody else can reach.

    Args:
        task: For all of them.
        gpus: The number of each device's GPU, as torch counts them; None for one thread of the CPU.
        max_retries: How often Ray gives an example again.

    Raises:
        BadInputError: If Ray isn't installed, or the task can't be sent.
        WorkersError: If Ray can't be started.
    """
    mine = [gpu for gpu in gpus if gpu is not None]
    network = task.pretrained.network
    size = sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))
    with local_ray(len(gpus), mine, SPARE_BYTES + 2 * size) as ray:
        log.info("Workers: starting %d of them by Ray %s, on this machine", len(gpus), ray.__version__)
        one = {"num_cpus": 1, "num_gpus": 1 if mine else 0}
        with contextlib.closing(RayActors(ray, task, len(gpus), one, max_retries)) as actors:
            yield actors


@contextlib.contextmanager
def local_ray(cpus: int, gpus: Sequence[int], store_bytes: int) -> Iterator[Any]:
    """A Ray on this machine that listens on loopback alone, and whose files nobody else can reach.

    Args:
        cpus: How many workers it has room for.
        gpus: The number of each GPU, as torch counts them.
        store_bytes: The size of its object store.

    Returns:
        The package, connected.

    Raises:
        BadInputError: If Ray isn't installed.
        WorkersError: If it can't be started.
    """
    # For this user alone. Not in TMPDIR, which may be long: Ray's sockets lie below, and a socket's name is short.
    folder = Path(tempfile.mkdtemp(prefix="steps-to-epsilon-", dir="/tmp"))
    token = folder / "token"
    token.touch(0o600)
    token.write_text(_secret(), encoding="utf-8")
    there = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name) and not SECRET.search(name)}
    own = {"OMP_NUM_THREADS": "1", "RAY_AUTH_TOKEN_PATH": str(token), "CUDA_VISIBLE_DEVICES": visible(gpus)}
    try:
        with _environment({**there, **RAY_QUIET, **LOOPBACK_ONLY, **own}):
            ray = _ray()
            try:
                with _signals_as_they_are():
                    context = ray.init(
                        address="local",
                        num_cpus=cpus,
                        num_gpus=len(gpus),
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        object_store_memory=store_bytes,
                        _temp_dir=str(folder / "r"),  # a folder below, since Ray opens its own to everybody
                    )
            # No memory, no processes left, a firewall on loopback: Ray raises whatever it met.
            except Exception as error:
                raise WorkersError(f"Ray can't be started on this machine: {_reason(error)}") from error
            if not context.address_info["node_ip_address"].startswith("127."):
                log.warning("Ray listens on %s, not on this machine alone: something had loaded it before",
                            context.address_info["node_ip_address"])  # fmt: skip
            with _ended(ray):
                yield ray
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def cluster_workers(
    task: Task, kind: str, address: str, at_most: int | None, max_retries: int
) -> Iterator["RayActors"]:
    """A worker for each matching device of a cluster that runs already, or as many as `--workers` says.

    Args:
        task: For all of them.
        kind: `cpu` or `cuda`.
        address: `auto`, or HOST:PORT.
        at_most: No more than these; None for all.
        max_retries: How often Ray gives an example again.

    Raises:
        BadInputError: If Ray isn't installed, the cluster isn't there or has no such device, or the task can't be sent.
    """
    log.info("Workers: looking for the cluster at --ray_address %s", address)
    with _environment({**os.environ, **RAY_QUIET, **OF_A_CLUSTER}):
        ray = _ray()
        try:
            with _signals_as_they_are():
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        # Ray raises ConnectionError, RuntimeError, ValueError, AuthenticationError, ...
        except Exception as error:
            reason = "no Ray runs on this machine" if "Could not find any running" in str(error) else _reason(error)
            raise BadInputError(
                f"--ray_address {address}: no cluster answers there: {reason} (`ray start` begins one)"
            ) from error
    with _ended(ray):
        resource = "GPU" if kind == "cuda" else "CPU"
        nodes = [node for node in ray.nodes() if node["Alive"]]
        there = int(ray.cluster_resources().get(resource, 0))
        if not there:
            raise BadInputError(f"--ray_address {address}: that cluster has no {resource}")
        count = min(there, at_most or there)
        log.info("Workers: starting %d of them by Ray %s, on a cluster of %d %ss on %d machines",
                 count, ray.__version__, there, resource, len(nodes))  # fmt: skip
        one = {"num_cpus": 0, "num_gpus": 1} if kind == "cuda" else {"num_cpus": 1}
        with contextlib.closing(RayActors(ray, task, count, one, max_retries)) as actors:
            yield actors


def visible(gpus: Sequence[int]) -> str:
    """`CUDA_VISIBLE_DEVICES` for some of the GPUs that this process sees."""
    mine = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = mine.split(",") if mine else None
    return ",".join(names[gpu].strip() if names else str(gpu) for gpu in gpus)


@functools.cache
def _secret() -> str:
    """Of this process: Ray reads its token once and keeps it for all that the process starts later."""
    return secrets.token_hex(32)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise BadInputError(f"several workers need Ray, which can't be loaded ({error}): {INSTALL}") from error
    return ray


@contextlib.contextmanager
def _ended(ray: Any) -> Iterator[None]:
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment that processes started now inherit."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _signals_as_they_are() -> Iterator[None]:
    # Ray puts a handler of its own in place of ours. What it starts inherits that some signals wait: a terminal that is
    # gone, or a batch system, tells all processes of a study, and the workers are to end when the study does.
    before = signal.getsignal(signal.SIGTERM)
    waiting = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_THE_DRIVER)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, waiting)
        signal.signal(signal.SIGTERM, before)


@dataclass(frozen=True)
class Lost:
    """What is heard in the place of a result or a report, when a worker's process is gone.

    Args:
        reason: In one line.
        is_dead: Whether it is not to come back; else Ray restarts it, or has tried an example too often.
        is_refusal: Whether it doesn't fit the study.
    """

    reason: str
    is_dead: bool = False
    is_refusal: bool = False


Heard = tuple[int, Example | None, Result | WorkerReport | Lost | None]
"""A worker, an example that it was given, and what came of it. Without an example it is about the worker itself."""


class RayActors:
    """The workers' processes: Ray restarts those that are lost, and gives them their examples again.

    Args:
        ray: The package, connected.
        task: For all of them.
        size: How many.
        resources: Of one worker, as Ray names them.
        max_retries: How often Ray gives an example again to a worker that it has restarted.
        actor: What each of them is; a stand-in may take the place of a worker that trains.

    Raises:
        BadInputError: If the task can't be sent.
    """

    def __init__(
        self,
        ray: Any,
        task: object,
        size: int,
        resources: Mapping[str, float],
        max_retries: int,
        actor: type[Worker] = StudyWorker,
    ) -> None:
        self._ray = ray
        self.size = size
        try:
            self._task = ray.put(task)  # kept here, so that it is there for every restart
        # Whatever a user's callback or plugin raises when it is pickled; a store that is full.
        except Exception as error:
            raise BadInputError(
                f"the study can't be sent to workers (because of callbacks or plugins of --trainer?): {_reason(error)}"
            ) from error
        restarted = {"max_restarts": MAX_RESTARTS, "max_task_retries": max_retries}
        made = ray.remote(**restarted, **resources, scheduling_strategy="SPREAD")(actor)
        self._actors = {worker: made.remote(ray.cloudpickle.dumps(self._task)) for worker in range(size)}
        self._awaited = 0
        self._heard = SimpleQueue[tuple[int, Example | None, Future[Any]]]()

    def close(self) -> None:
        """Ends all of them. Of calls that are left behind when it ends, Ray would say on the screen what it can't."""
        for worker in tuple(self._actors):
            self.dismiss(worker)
        with contextlib.suppress(Empty):
            while self._awaited:
                self._heard.get(timeout=LAST_CALLS_SECONDS)
                self._awaited -= 1

    def dismiss(self, worker: int) -> None:
        """Ends a worker for good; of it nothing more is heard."""
        self._ray.kill(self._actors.pop(worker))

    def train(self, worker: int, example: Example, rule: StopRule) -> None:
        """Gives a worker an example; what comes of it will be heard. See `Worker.train`."""
        there = replace(example, image=example.image.absolute())
        self._await(worker, example, self._actors[worker].train.remote(there, rule))

    def ask(self, worker: int, is_stopping: bool) -> None:
        """Asks a worker how it is doing; its report will be heard, or that it is lost. See `Worker.report`."""
        report = self._actors[worker].report.options(max_task_retries=0)
        self._await(worker, None, report.remote(is_stopping))

    def _await(self, worker: int, example: Example | None, reference: Any) -> None:
        self._awaited += 1
        reference.future().add_done_callback(lambda future: self._heard.put((worker, example, future)))

    def hear(self, seconds: float) -> Heard | None:
        """What is heard next, if anything is within so many seconds."""
        # Not ray.wait: it looks at all that is awaited each time, and Ctrl-C waits for it.
        while True:
            try:
                worker, example, future = self._heard.get(timeout=seconds)
            except Empty:
                return None
            self._awaited -= 1
            if worker in self._actors:
                return worker, example, self._outcome(future)

    def _outcome(self, future: "Future[Any]") -> Any:
        error = future.exception()
        if error is None:
            return future.result()
        if isinstance(error, self._ray.exceptions.ActorUnavailableError):  # all that Ray says is that it is
            return Lost("its process has ended")
        reason = _reason(error)
        _, is_refused, why = _in_one_line(error).partition(f"{RefusedError.__name__}: ")  # with all keys, old and new
        is_dead = isinstance(error, self._ray.exceptions.ActorDiedError)
        return Lost(why or reason, is_dead, bool(is_refused))


def _reason(error: BaseException) -> str:
    line = _in_one_line(error)
    return line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 3] + "..."


def _in_one_line(error: BaseException) -> str:
    """Why: Ray's texts end with the cause, and what may be done about Ray itself comes after it."""
    text = re.sub("\033\\[[0-9;]*m", "", str(error)).partition("Some common causes include")[0].strip()
    if isinstance(error, RuntimeError | ValueError | ConnectionError) or "\n" not in text:
        last = text
    else:
        last = text.splitlines()[-1]
    return re.sub(r"Worker exit type: \S+ Worker exit detail: ", "", " ".join(last.split())) or type(error).__name__
