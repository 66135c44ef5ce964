"""Many workers that train nothing, and one driver that does all of its work: how busy can it keep them?

    python scripts/limit_of_the_driver.py                          64 workers, faster and faster, forty seconds each
    python scripts/limit_of_the_driver.py --examples 50000 --seconds 0.6      one long study, with the driver's memory

The workers are Ray's actors with the project's own `Worker`, and an engine that sleeps for a length that is drawn. The
driver hands out examples, takes trajectories and puts each on disk, with its step log and its curves, as a study does.
"""

import argparse
import logging
import pickle
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.engines.base import never, unseen
from lightning_app.engines.workers.ray_actors import RayActors, local_ray
from lightning_app.engines.workers.worker import ReadyWorker, Worker
from lightning_app.engines.workers.worker_pool import WorkerPool
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import CommandLine, Target
from lightning_app.store.tensorboard import Curves, TensorBoardFolder, shown_examples

HERE: dict[str, object] = {"device": "none"}
RULE = StopRule(1e-3, 500)
PACE = (2.0, 1.0, 0.5, 0.35, 0.25)
STORE = 2**27
"""Bytes of Ray's object store, which holds next to nothing."""
BEFORE_THE_END = 4
"""Examples a worker that are not looked at: then the long ones end, and there is no next."""


class Sleeper:
    """An engine that sleeps. An example's length, in steps and in seconds, follows from its number alone."""

    max_in_flight = 1
    devices = 1
    steps_a_second = None

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def summary_line(self) -> None:
        """Nothing."""

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        should_stop: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Trajectory | Failure]:
        """Sleeps once an example."""
        for example in filter(None, examples):
            steps = steps_of(example)
            seconds = self.seconds * steps / MEAN_STEPS
            time.sleep(seconds)
            on_steps(steps)
            losses = [*(1.0 / k for k in range(1, steps)), rule.epsilon / 2]
            yield Trajectory(example, "reached", losses, 0, 1, 0.1, seconds)
            if should_stop():
                return


def steps_of(example: Example) -> int:
    """Log-normal, from 2 to 500: a hundredfold and more between the shortest and the longest."""
    return min(500, max(2, round(random.Random(example.index).lognormvariate(3.9, 0.9))))


MEAN_STEPS = statistics.mean(steps_of(Example(i, "", Path(), 0, 1)) for i in range(20_000))


class StandIn(Worker):
    """A worker's process."""

    def __init__(self, task: bytes) -> None:
        import ray  # not above: in the driver it is loaded by `local_ray`

        seconds = ray.get(pickle.loads(task))
        super().__init__(lambda: ReadyWorker(Sleeper(seconds), "none"))


def megabytes() -> float:
    """Of this process, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def study(ray: Any, workers: int, examples: int, seconds: float, folder: StudyFolder) -> None:
    """Runs one study and prints how it went."""
    sample = [Example(i, f"val/n{i % 1000:08}/{i:08}.JPEG", Path(f"{i}"), 0, i + 1) for i in range(examples)]
    actors = RayActors(ray, seconds, workers, {"num_cpus": 1}, 3, StandIn)
    engine = WorkerPool(actors, 3, lambda lines: None)
    engine.wait_for_workers(600)
    target = Target(RULE.max_steps, tuple((example.rank, example.path) for example in sample))
    folder.begin(None, {"epsilon": RULE.epsilon}, HERE, target, CommandLine("", {}, {}))
    start, cpu, done, busy = time.perf_counter(), time.process_time(), 0, 0.0
    shown = shown_examples(sample, 42, 50)
    with Curves([TensorBoardFolder(folder.folder / "tensorboard")], shown, 5) as curves:
        for result in engine.train(sample, RULE):
            stored = folder.commit(result)
            curves.add(stored, result.example.index, result.losses if isinstance(result, Trajectory) else ())
            done += 1
            if done == examples - BEFORE_THE_END * workers:
                busy = engine.busy
            if done % max(1, examples // 10) == 0 and examples >= 10_000:
                print(f"  {done} examples, driver {megabytes():.0f} MB", flush=True)
    spent, used = time.perf_counter() - start, time.process_time() - cpu
    print(
        f"{workers} workers, {examples} examples of {seconds:g} s on average: {examples / spent:.1f} examples a second"
        f" ({workers / seconds:.1f} asked for), {spent:.0f} s; until few were left workers were busy"
        f" {100 * busy:.1f} % of their time; the driver's own CPU: {100 * used / spent:.0f} %,"
        f" {1000 * used / examples:.2f} ms an example; {engine.summary_line()}",
        flush=True,
    )
    actors.close()


def main() -> None:
    """Runs the studies that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--examples", type=int, help="of one study (default: as many as forty seconds take)")
    parser.add_argument("--seconds", type=float, help="an example takes, on average (default: several, one by one)")
    arguments = parser.parse_args()
    logging.getLogger("lightning_app").setLevel(logging.ERROR)
    with local_ray(arguments.workers, (), STORE) as ray:
        for seconds in (arguments.seconds,) if arguments.seconds else PACE:
            with tempfile.TemporaryDirectory() as place:
                folder = StudyFolder(Path(place) / "study")
                with folder.locked():
                    count = arguments.examples or round(40 * arguments.workers / seconds)
                    study(ray, arguments.workers, count, seconds, folder)


if __name__ == "__main__":
    main()
