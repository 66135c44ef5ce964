"""What a large study costs: FOLDER is made up once, and commands on it are timed, and its exports.

50,000 examples of 1,000 steps (`--epsilon 1e-9`) are 282 MB of log, and 1.3 GB of step logs once they are exported.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lightning_app.data.example import Example
from lightning_app.data.trajectory import Trajectory
from lightning_app.store.log import LogWriter
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import (
    FORMAT,
    STORE,
    CommandLine,
    EnvironmentLine,
    StudyLine,
    Target,
    example_line,
    line_bytes,
    read_study,
)
from lightning_app.study.finalize import finalize

EPSILON = 1e-3
FOLLOWS = 0.15
"""How closely the logarithm of the steps follows difficulty."""


def make_study(folder: Path, examples: int, max_steps: int, epsilon: float) -> None:
    """Writes the log of a study: losses fall with 1/step, some reach epsilon."""
    folder.mkdir(parents=True)
    chance = np.random.default_rng(0)
    rank = np.sort(chance.choice(np.arange(1, 2 * examples + 1), examples, replace=False)).tolist()
    slow = FOLLOWS * (rank - np.mean(rank)) / np.std(rank) + math.sqrt(1 - FOLLOWS**2) * chance.normal(size=examples)
    steps = np.arange(1, max_steps + 1)
    paths = [f"/data/val/n{index % 1000:08d}/ILSVRC2012_val_{index:08d}.JPEG" for index in range(examples)]
    identity: dict[str, object] = {"epsilon": epsilon, "select": "wrong", "optimizer": {"name": "SGD", "lr": 0.001}}
    aside = folder / f"{STORE}.unfinished"
    log = LogWriter(aside, 0, flush=False)
    for line in (StudyLine(FORMAT, identity), EnvironmentLine(1, {"device": "made up"}),
                 Target(max_steps, tuple(zip(rank, paths, strict=True))), CommandLine("", {}, {})):  # fmt: skip
        log.append(line_bytes(line))
    for index in tqdm(range(examples), desc="making a study up", unit="example"):
        noise = np.exp(0.001 * chance.normal(size=max_steps))
        losses = (
            2 * math.exp(0.3 * chance.normal()) / (1 + steps / (0.9 * math.exp(0.9 * slow[index]))) * noise
        ).astype(np.float32)
        reached = np.flatnonzero(losses <= epsilon)
        losses = losses[: int(reached[0]) + 1] if reached.size else losses
        label = int(chance.integers(1000))
        trajectory = Trajectory(
            Example(index, paths[index], Path(paths[index]), label, rank[index]),
            "reached" if reached.size else "censored", losses.astype(float).tolist(), (label + 1) % 1000, 3, 0.1, 0.5,
        )  # fmt: skip
        log.append(line_bytes(example_line(trajectory, 1)))
    log.close()
    aside.rename(folder / STORE)  # the last: a study that is there is whole


def main() -> None:
    """Prints a line a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--max_steps", type=int, default=1_000)
    parser.add_argument("--epsilon", type=float, default=EPSILON, help="with 1e-9 every example takes all steps")
    parser.add_argument("--exports", action="store_true", help="time them too")
    parser.add_argument("--page", action="store_true", help="time the whole report too")
    arguments = parser.parse_args()
    if not (arguments.folder / STORE).is_file():
        make_study(arguments.folder, arguments.examples, arguments.max_steps, arguments.epsilon)
    print(f"{STORE} {(arguments.folder / STORE).stat().st_size / 1e6:,.0f} MB")
    for command in (["status"], ["report", "--json"], ["report", "--json", "--epsilon", "0.02"],
                    *([["report"]] if arguments.page else [])):  # fmt: skip
        argv = [sys.executable, "-m", "lightning_app", command[0], str(arguments.folder), *command[1:]]
        start = time.monotonic()
        child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        print(
            f"{' '.join(command):<31} {time.monotonic() - start:6.1f} s, {_megabytes(used):,.0f} MB at most,"
            f" exit code {os.waitstatus_to_exitcode(status)}",
            flush=True,
        )
    if arguments.exports:
        for what in ("exports, all new", "exports, all there"):
            (arguments.folder / "training_summary.json").unlink(missing_ok=True)
            folder = StudyFolder(arguments.folder)
            start = time.monotonic()
            with folder.locked():
                study = read_study(arguments.folder)
                assert study is not None
                folder.begin(study, study.identity, study.environments[1], study.target, study.command)
                began = time.monotonic()
                finalize(folder)
            print(f"{what:<31} {began - start:6.1f} s at the start, {time.monotonic() - began:.1f} s at the end")


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
