"""The crew over a stand-in for Ray; `test_two_workers.py` has the real one."""

import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from lightning_app.errors import BadInputError
from lightning_app.parallel.messages import Lost, Order
from lightning_app.parallel.ray_crew import PASSED_ON, SECRET, RayCrew, require_ray, visible
from lightning_app.training.trajectory import StopRule
from tests.parallel.crews import introduce

RULE = StopRule(0.1, 10)


class RayError(Exception):
    """Of Ray."""


class StandIn:
    """Ray's calls as far as the crew uses them; what they come to is set by the test."""

    class exceptions:  # noqa: N801
        RayError = RayError

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.killed: list[str] = []
        self.started: list[str] = []
        self.asked: dict[str, Any] = {}

    def remote(self, **options: Any) -> Any:
        self.asked = options
        ray = self

        class Handle:
            def __init__(self) -> None:
                ray.started.append(f"actor {len(ray.started)}")
                self.name = ray.started[-1]

            @property
            def begin(self) -> Any:
                return self._method("begin")

            @property
            def exchange(self) -> Any:
                return self._method("exchange")

            def _method(self, method: str) -> Any:
                class Call:
                    @staticmethod
                    def remote(content: Any) -> str:
                        return f"{self.name} {method}"

                return Call

        def decorate(actor: type) -> Any:
            class Class:
                @staticmethod
                def remote() -> Handle:
                    return Handle()

            return Class

        return decorate

    def put(self, task: object) -> object:
        if task == "a lambda":
            raise TypeError("cannot pickle it")
        return task

    def wait(self, owed: Sequence[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        said = [reference for reference in owed if reference in self.answers][:num_returns]
        return said, [reference for reference in owed if reference not in said]

    def get(self, reference: str) -> object:
        answer = self.answers.pop(reference)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, handle: Any) -> None:
        self.killed.append(handle.name)


def test_workers_begin_and_answer_orders() -> None:
    ray = StandIn()
    crew = RayCrew(ray, "task", 2, {"num_cpus": 1})
    assert (crew.size, ray.asked["max_restarts"], ray.asked["num_cpus"]) == (2, 0, 1)
    assert crew.hear(0.0) == []
    ray.answers = {"actor 1 begin": introduce(host="b")}
    assert crew.hear(0.0) == [(1, introduce(host="b"))]
    crew.send(1, Order([], RULE))
    ray.answers = {"actor 0 begin": introduce(host="a"), "actor 1 exchange": RayError("The actor died.")}
    assert crew.hear(0.0) == [(0, introduce(host="a")), (1, Lost("The actor died.", could_start=True))]
    assert crew.hear(0.0) == []


def test_a_worker_that_is_started_anew_or_sent_away_says_no_more() -> None:
    ray = StandIn()
    crew = RayCrew(ray, "task", 2, {})
    crew.start_anew(0)
    crew.dismiss(1)
    assert ray.killed == ["actor 0", "actor 1"]
    ray.answers = {f"actor {number} begin": RayError("died") for number in range(3)}
    assert crew.hear(0.0) == [(0, Lost("died", could_start=False))]
    assert set(ray.answers) == {"actor 0 begin", "actor 1 begin"}
    assert crew.hear(0.0) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\033[36mray::_Actor.begin()\033[39m (pid=1)\n  File x\nModuleNotFoundError: No module named 'timm'",
         "ModuleNotFoundError: No module named 'timm'"),
        ("died. Worker exit type: SYSTEM_ERROR Worker exit detail: signal 9. Some common causes include:\n..",
         "died. signal 9."),
        ("x" * 400, "x" * 297 + "..."),
        ("", "RayError"),
    ],
)  # fmt: skip
def test_why_a_worker_was_lost_is_one_line(text: str, reason: str) -> None:
    ray = StandIn()
    crew = RayCrew(ray, "task", 1, {})
    ray.answers = {"actor 0 begin": RayError(text)}
    assert crew.hear(0.0) == [(0, Lost(reason, could_start=False))]


def test_what_can_not_be_sent_is_named() -> None:
    with pytest.raises(BadInputError, match=r"can't be sent to workers \(because of .*--trainer\?\): cannot"):
        RayCrew(StandIn(), "a lambda", 1, {})


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


def test_a_workers_process_loads_nothing_heavy_before_its_environment_is_set() -> None:
    code = "import sys, lightning_app.parallel.ray_crew; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "lightning_app.parallel.worker" in done.stdout.split()
    assert not {"torch", "lightning", "numpy"} & {*done.stdout.split()}
