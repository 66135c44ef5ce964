"""The actors over a stand-in for Ray; `test_two_workers.py` has the real one."""

import socket
import sys
from concurrent.futures import Future
from typing import Any

import pytest

from lightning_app.errors import BadInputError
from lightning_app.parallel.ray_actors import PASSED_ON, SECRET, Lost, RayActors, require_ray, visible
from lightning_app.parallel.worker import StudyWorker
from lightning_app.training.trajectory import StopRule
from tests.parallel.actors import READY, examples, trained

RULE = StopRule(0.1, 10)
SAMPLE = examples(2)


class Died(Exception):  # noqa: N818
    """Ray has given an actor up."""

    def __init__(self, text: str, actor_init_failed: bool = False) -> None:
        super().__init__(text)
        self.actor_init_failed = actor_init_failed


class Away(Exception):  # noqa: N818
    """An actor is being restarted."""


class StandIn:
    """Ray's calls as far as they are used; what they come to is set by the test."""

    class exceptions:  # noqa: N801
        ActorDiedError = Died
        ActorUnavailableError = Away

    class cloudpickle:  # noqa: N801
        dumps = staticmethod(repr)

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.answers: list[Future[Any]] = []
        self.asked: dict[str, Any] = {}
        self.made = 0

    def put(self, task: object) -> object:
        if task == "a lambda":
            raise TypeError("cannot pickle it")
        return task

    def kill(self, actor: "Handle") -> None:
        self.calls.append(("kill", actor.number))

    def remote(self, **options: Any) -> Any:
        self.asked = options

        def decorate(actor: type) -> Any:
            assert actor is StudyWorker
            return Call(self, "make")

        return decorate


class Handle:
    def __init__(self, ray: StandIn, number: int) -> None:
        self.number = number
        self.train, self.report = Call(ray, "train", number), Call(ray, "report", number)


class Call:
    def __init__(self, ray: StandIn, *what: Any) -> None:
        self.ray, self.what = ray, what

    def options(self, **options: Any) -> "Call":
        return Call(self.ray, *self.what, options)

    def remote(self, *arguments: Any) -> Any:
        self.ray.calls.append((*self.what, *arguments))
        if self.what == ("make",):
            self.ray.made += 1
            return Handle(self.ray, self.ray.made)
        self.ray.answers.append(Future())
        return self

    def future(self) -> Future[Any]:
        return self.ray.answers[-1]


def started(size: int) -> tuple[StandIn, RayActors]:
    ray = StandIn()
    actors = RayActors(ray, "task", size, {"num_cpus": 1}, max_retries=3)
    for worker in range(size):
        actors.start(worker)
    return ray, actors


def test_ray_restarts_workers_and_gives_them_their_examples_again() -> None:
    ray, _ = started(2)
    assert ray.asked == {
        "max_restarts": 8, "max_task_retries": 3, "scheduling_strategy": "SPREAD", "num_cpus": 1,
    }  # fmt: skip
    assert ray.calls == [("make", "'task'"), ("make", "'task'")]


def test_what_comes_of_calls_is_heard() -> None:
    ray, actors = started(2)
    assert actors.hear(0.0) is None
    actors.train(1, 7, SAMPLE[0], RULE)
    actors.ask(0, is_stopping=True)
    assert ray.calls[2:] == [("train", 2, 7, SAMPLE[0], RULE), ("report", 1, {"max_task_retries": 0}, True)]
    assert actors.hear(0.0) is None
    ray.answers[1].set_result(READY)
    ray.answers[0].set_result(trained(SAMPLE[0], RULE))
    assert actors.hear(0.0) == (0, None, READY)
    assert actors.hear(0.0) == (1, SAMPLE[0], trained(SAMPLE[0], RULE))


def test_a_worker_that_is_made_anew_or_sent_away_says_no_more() -> None:
    ray, actors = started(2)
    for worker in (0, 1):
        actors.ask(worker, is_stopping=False)
    actors.start(0)
    actors.dismiss(1)
    assert [call for call in ray.calls if call[0] == "kill"] == [("kill", 1), ("kill", 2)]
    actors.ask(0, is_stopping=False)
    for answer in ray.answers:
        answer.set_result(READY)
    assert actors.hear(0.0) == (0, None, READY)
    assert actors.hear(0.0) is None


def test_at_the_end_all_are_ended_and_their_calls_with_them() -> None:
    ray, actors = started(2)
    with actors:
        actors.ask(0, is_stopping=False)
        actors.train(1, 0, SAMPLE[0], RULE)
        for answer in ray.answers:
            answer.set_exception(Died("killed"))
    assert ray.calls[-2:] == [("kill", 1), ("kill", 2)]
    assert actors.hear(0.0) is None


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (Away("The actor is unavailable: RPC error: Socket closed."), Lost("its process has ended")),
        (RuntimeError("The object store is full."), Lost("The object store is full.")),
        (Died("died. Worker exit type: SYSTEM_ERROR Worker exit detail: signal 9. Some common causes include:\n.."),
         Lost("died. signal 9.", is_dead=True)),
        (Died("\033[36mray::StudyWorker\033[39m (pid=1)\n  File x\nModuleNotFoundError: No module named 'timm'", True),
         Lost("ModuleNotFoundError: No module named 'timm'", is_dead=True, could_start=False)),
        (Died("ray::StudyWorker\n  File x\nlightning_app.parallel.worker.RefusedError: b trains another: no", True),
         Lost("lightning_app.parallel.worker.RefusedError: b trains another: no", True, False,
              "b trains another: no")),
        (Died("x" * 400), Lost("x" * 297 + "...", is_dead=True)),
        (Died(""), Lost("Died", is_dead=True)),
    ],
)  # fmt: skip
def test_why_a_worker_was_lost_is_one_line(error: Exception, lost: Lost) -> None:
    ray, actors = started(1)
    actors.ask(0, is_stopping=False)
    ray.answers[0].set_exception(error)
    assert actors.hear(0.0) == (0, None, lost)


def test_what_can_not_be_sent_is_named() -> None:
    with pytest.raises(BadInputError, match=r"can't be sent to workers \(because of .*--trainer\?\): cannot"):
        RayActors(StandIn(), "a lambda", 1, {}, 3)


@pytest.mark.parametrize(
    ("mine", "gpus", "names"),
    [
        (None, [0, 2], "0,2"),
        ("4,5,6,7", [0, 2], "4,6"),
        ("GPU-ab, MIG-cd", [1], "MIG-cd"),
        ("", [], ""),
        (None, [], ""),
    ],
)
def test_each_worker_sees_devices_under_the_names_that_this_process_has_for_them(
    mine: str | None, gpus: list[int], names: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if mine is not None:
            patch.setenv("CUDA_VISIBLE_DEVICES", mine)
        assert visible(gpus) == names


def test_workers_of_this_machine_are_told_no_secret() -> None:
    def is_passed_on(name: str) -> bool:
        return PASSED_ON.fullmatch(name) is not None and SECRET.search(name) is None

    needed = ("PATH", "HOME", "LD_LIBRARY_PATH", "CUDA_DEVICE_ORDER", "CUBLAS_WORKSPACE_CONFIG", "OMP_WAIT_POLICY")
    assert all(map(is_passed_on, (*needed, "LC_ALL", "PYTHONPATH", "GLIBC_TUNABLES", "ATEN_CPU_CAPABILITY")))
    secrets = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "PGPASSWORD", "SSH_AUTH_SOCK")
    assert not any(map(is_passed_on, (*secrets, "RAY_AUTH_TOKEN", "NVIDIA_NGC_APIKEY", "CUDA_TOKEN", "https_proxy")))


def test_without_ray_there_is_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    require_ray(None)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInputError, match=r"need Ray, which is not installed: pip install 'steps-to-epsilon\[ray\]'"):
        require_ray(None)


def test_a_cluster_where_nothing_listens_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        address = f"127.0.0.1:{there.getsockname()[1]}"
        require_ray(address)
    with pytest.raises(BadInputError, match=f"--ray_address {address}: nothing answers there: .*refused"):
        require_ray(address)
