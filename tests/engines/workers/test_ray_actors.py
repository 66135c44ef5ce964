"""The actors over a stand-in for Ray; `test_two_workers.py` has the real one."""

import socket
import sys
from concurrent.futures import Future
from contextlib import closing
from typing import Any
from unittest.mock import MagicMock

import pytest

from lightning_app.data.stop_rule import StopRule
from lightning_app.engines.workers.ray_actors import PASSED_ON, SECRET, Lost, RayActors, require_ray, visible
from lightning_app.engines.workers.worker import StudyWorker
from lightning_app.errors import BadInputError
from tests.engines.workers.actors import READY, examples, trained

RULE = StopRule(0.1, 10)
(EXAMPLE,) = examples(1)


class Died(Exception):  # noqa: N818
    """Ray has given an actor up."""


class Away(Exception):  # noqa: N818
    """An actor is being restarted."""


def started(size: int) -> tuple[MagicMock, MagicMock, RayActors]:
    """Ray, what stands for each actor, and the actors."""
    ray = MagicMock()
    ray.exceptions.ActorDiedError, ray.exceptions.ActorUnavailableError = Died, Away
    actors = RayActors(ray, "task", size, {"num_cpus": 1}, max_retries=3)
    return ray, ray.remote.return_value.return_value.remote.return_value, actors


def answer(call: Any) -> Future[Any]:
    """What a call comes to."""
    call.return_value.future.return_value = future = Future[Any]()
    return future


def test_ray_restarts_workers_gives_them_their_examples_again_and_tells_what_comes_of_it() -> None:
    ray, actor, actors = started(2)
    ray.remote.assert_called_once_with(max_restarts=100, max_task_retries=3, scheduling_strategy="SPREAD", num_cpus=1)
    ray.remote.return_value.assert_called_once_with(StudyWorker)
    result, report = answer(actor.train.remote), answer(actor.report.options.return_value.remote)
    actors.train(1, EXAMPLE, RULE)
    actors.ask(0, is_stopping=True)
    actor.train.remote.assert_called_once_with(EXAMPLE, RULE)
    actor.report.options.assert_called_once_with(max_task_retries=0)
    assert actors.hear(0.0) is None
    report.set_result(READY)
    result.set_result(trained(EXAMPLE, RULE))
    assert actors.hear(0.0) == (0, None, READY)
    assert actors.hear(0.0) == (1, EXAMPLE, trained(EXAMPLE, RULE))


def test_a_worker_that_is_sent_away_says_no_more_and_at_the_end_all_are() -> None:
    ray, actor, actors = started(2)
    with closing(actors):
        report = answer(actor.report.options.return_value.remote)
        actors.ask(1, is_stopping=False)
        actors.dismiss(1)
        assert ray.kill.call_count == 1
        report.set_result(READY)
        assert actors.hear(0.0) is None
    assert ray.kill.call_count == 2


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (Away("The actor is unavailable: RPC error: Socket closed."), Lost("its process has ended")),
        (RuntimeError("The object store is full."), Lost("The object store is full.")),
        (Died("died. Worker exit type: SYSTEM_ERROR Worker exit detail: signal 9. Some common causes include:\n.."),
         Lost("died. signal 9.", is_dead=True)),
        (Died("\033[36mray::StudyWorker\033[39m (pid=1)\n  File x\nModuleNotFoundError: No module named 'timm'"),
         Lost("ModuleNotFoundError: No module named 'timm'", is_dead=True)),
        (Died("ray::StudyWorker\n  File x\nlightning_app.engines.workers.worker.RefusedError: b trains another: no"),
         Lost("b trains another: no", is_dead=True, is_refusal=True)),
        (Died(f"ray::StudyWorker\nlightning_app.engines.workers.worker.RefusedError: {'many keys; ' * 99}the last"),
         Lost(f"{'many keys; ' * 99}the last", is_dead=True, is_refusal=True)),
        (Died("x" * 400), Lost("x" * 297 + "...", is_dead=True)),
        (Died(""), Lost("Died", is_dead=True)),
    ],
)  # fmt: skip
def test_why_a_worker_was_lost_is_one_line(error: Exception, lost: Lost) -> None:
    _, actor, actors = started(1)
    answer(actor.report.options.return_value.remote).set_exception(error)
    actors.ask(0, is_stopping=False)
    assert actors.hear(0.0) == (0, None, lost)


def test_what_can_not_be_sent_is_named() -> None:
    with pytest.raises(BadInputError, match=r"can't be sent to workers \(because of .*--trainer\?\): cannot"):
        RayActors(MagicMock(**{"put.side_effect": TypeError("cannot pickle it")}), "a lambda", 1, {}, 3)


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
