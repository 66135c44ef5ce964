"""What `report` takes on a large study: FOLDER is made up once, and three commands on it are timed.

50,000 examples of up to 1,000 steps are 1.2 GB of step logs and take six minutes to write.
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

from lightning_app.inputs.example import Example
from lightning_app.store.fingerprint import Fingerprint, Goal, Stretch
from lightning_app.store.export import row_of, step_log_name, step_log_text, table_text
from lightning_app.training.trajectory import Trajectory

EPSILON = 1e-3
FOLLOWS = 0.15
"""How closely the logarithm of the steps follows difficulty."""


def make_study(folder: Path, examples: int, max_steps: int) -> None:
    """Writes a study as a run leaves it: losses fall with 1/step, some reach epsilon."""
    logs = folder / "step_logs"
    logs.mkdir(parents=True)
    chance = np.random.default_rng(0)
    rank = np.sort(chance.choice(np.arange(1, 2 * examples + 1), examples, replace=False))
    slow = FOLLOWS * (rank - rank.mean()) / rank.std() + math.sqrt(1 - FOLLOWS**2) * chance.normal(size=examples)
    steps = np.arange(1, max_steps + 1)
    rows = []
    for index in tqdm(range(examples), desc="making a study up", unit="example"):
        noise = np.exp(0.001 * chance.normal(size=max_steps))
        losses = (
            2 * math.exp(0.3 * chance.normal()) / (1 + steps / (0.9 * math.exp(0.9 * slow[index]))) * noise
        ).astype(np.float32)
        reached = np.flatnonzero(losses <= EPSILON)
        losses = losses[: int(reached[0]) + 1] if reached.size else losses
        label, path = int(chance.integers(1000)), f"/data/val/n{index % 1000:08d}/ILSVRC2012_val_{index:08d}.JPEG"
        trajectory = Trajectory(
            Example(index, path, Path(path), label, int(rank[index])), "reached" if reached.size else "censored",
            losses.astype(float).tolist(), (label + 1) % 1000, 3, 0.1, 0.5,
        )  # fmt: skip
        rows.append(row_of(trajectory, EPSILON))
        (logs / step_log_name(index, path)).write_text(step_log_text(trajectory.losses))
    (folder / "single_example_results.csv").write_text(table_text(rows))
    identity: dict[str, object] = {"epsilon": EPSILON, "select": "wrong", "optimizer": {"name": "SGD", "lr": 0.001}}
    fingerprint = Fingerprint(identity, (Stretch({}),), Goal(examples, max_steps), max_steps)
    (folder / "run.json").write_text(fingerprint.text())  # the last: a study that is there is whole


def main() -> None:
    """Prints a line a command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--examples", type=int, default=50_000)
    parser.add_argument("--max_steps", type=int, default=1_000)
    arguments = parser.parse_args()
    if not (arguments.folder / "run.json").is_file():
        make_study(arguments.folder, arguments.examples, arguments.max_steps)
    for flags in (["--json"], ["--json", "--epsilon", "0.02"], []):
        command = [sys.executable, "-m", "lightning_app", "report", str(arguments.folder), *flags]
        start = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        print(
            f"report {' '.join(flags):<24} {time.monotonic() - start:6.1f} s, {_megabytes(used):,.0f} MB at most,"
            f" exit code {os.waitstatus_to_exitcode(status)}",
            flush=True,
        )


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
