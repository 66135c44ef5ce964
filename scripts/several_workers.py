"""Several workers against one, on a study of your own: how much faster, and are the files the same?

    python -m scripts.several_workers --turns 3 -- FLAGS OF run      one and two CPU workers, in turns
    python -m scripts.several_workers --shards -- FLAGS OF run       and two shards at once
    python -m scripts.several_workers --kills 30 -- FLAGS OF run     a study by one, then by two, killed at random
    python -m scripts.several_workers --kills 30 --killer IMAGE -- FLAGS OF run    and an image that kills its worker

Results go to a temporary folder; `--output_dir` and `--trainer.devices` are not for FLAGS. The pace is that of the log:
from the line that says what is to be trained to the last example, so that neither loading nor starting counts.
"""

import argparse
import contextlib
import csv
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import lightning.pytorch as L
import torch

from lightning_app.data.image import read_pixels
from lightning_app.training.pretrained import load_pretrained
from tests.engines.workers.processes import descendants
from tests.engines.workers.studies import RESULTS, files

WORKER, STARTING = "ray::StudyWorker", "__init__"
TIME = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+) \w+ +(.*)", re.MULTILINE)


class Killer(L.Callback):
    """Kills the worker that trains a certain image; one device, which has no Ray, trains it as any other.

    Args:
        total: Of the image's pixels, as the model sees them.
    """

    def __init__(self, total: float) -> None:
        self.total = total

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Kills."""
        if "ray" in sys.modules and float(trainer.datamodule.batch[0].sum()) == self.total:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)


def flags_of_a_killer(flags: Sequence[str], image: Path) -> list[str]:
    """What makes an image kill its workers."""
    torch.set_num_threads(1)  # as where it trains
    total = float(read_pixels(image, load_pretrained(flags[flags.index("--model_name") + 1]).transform).sum())
    kind = f"{Killer.__module__}.{Killer.__qualname__}".replace("__main__", "scripts.several_workers")
    return ["--trainer.callbacks", kind, "--trainer.callbacks.total", repr(total)]


@dataclass(frozen=True)
class Run:
    """One study.

    Args:
        pace: Example-steps a second.
        files: What must be the same.
        closing: What the log says of the workers.
        kills: Workers that were killed.
        rows: Paths of the table's rows.
        errors: Those of them that are errors.
    """

    pace: float
    files: dict[str, bytes]
    closing: str
    kills: int
    rows: list[str]
    errors: list[str]


def run(flags: list[str], devices: int, kills: int, seconds: float, place: Path) -> Run:
    """Runs the study, and kills workers on the way at random moments.

    Args:
        flags: Of `run`.
        devices: CPU workers.
        kills: How many to kill.
        seconds: About how long the study takes, to spread them.
        place: A new folder.
    """
    argv = [sys.executable, "-m", "lightning_app", "run", *flags, "--trainer.accelerator", "cpu"]
    process = subprocess.Popen(
        [*argv, "--trainer.devices", str(devices), "--output_dir", str(place)], stderr=subprocess.DEVNULL
    )
    dice, killed = random.Random(0), 0
    while killed < kills and process.poll() is None:  # and not afterwards: looking at processes takes its time too
        time.sleep(dice.expovariate(kills / seconds))
        below = descendants(process.pid).items()
        if there := [pid for pid, words in below if words.startswith(WORKER) and STARTING not in words]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(dice.choice(there), signal.SIGKILL)
                killed += 1
    if process.wait() not in (0, 3):
        raise SystemExit(f"the study ended with {process.returncode}")
    (folder,) = (file.parent for file in place.glob(f"*/{RESULTS}"))
    pace, closing = pace_of(folder)
    with (folder / RESULTS).open(newline="") as stream:
        outcomes = [(row["path"], row["outcome"]) for row in csv.DictReader(stream)]
    errors = [path for path, outcome in outcomes if outcome == "error"]
    return Run(pace, files(folder), closing, killed, [path for path, _ in outcomes], errors)


def pace_of(folder: Path) -> tuple[float, str]:
    """Example-steps a second of a study, and what its log says of the workers."""
    (log,) = folder.glob("train_single_*.log")
    said = [(datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f"), what) for when, what in TIME.findall(log.read_text())]
    begin = next(when for when, what in said if what.startswith("To train: "))
    end = max(when for when, what in said if what.startswith("example "))
    closing = next((what for _, what in said if what.startswith("Workers: ") and "at work" in what), "one device")
    with (folder / RESULTS).open(newline="") as stream:
        steps = sum(int(row["steps_run"] or 0) for row in csv.DictReader(stream))
    return steps / (end - begin).total_seconds(), closing


def side_by_side(flags: list[str], devices: int, place: Path) -> float:
    """So many studies at once that know nothing of each other, a shard each: what this machine can do at best."""
    argv = [sys.executable, "-m", "lightning_app", "run", *flags, "--trainer.accelerator", "cpu"]
    processes = [
        subprocess.Popen(
            [*argv, "--shard", f"{number}/{devices}", "--output_dir", str(place)], stderr=subprocess.DEVNULL
        )
        for number in range(1, devices + 1)
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a shard did not end well")
    return sum(pace_of(file.parent)[0] for file in place.glob(f"*/{RESULTS}"))


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--killer", type=Path, help="an image of the study's")
    parser.add_argument("--shards", action="store_true")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("flags", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    flags = [flag for flag in arguments.flags if flag != "--"]
    if arguments.killer:
        flags += flags_of_a_killer(flags, arguments.killer)
    ratios = []
    with tempfile.TemporaryDirectory() as place:
        for turn in range(arguments.turns):
            start = time.monotonic()
            one = run(flags, 1, 0, 0, Path(place, f"one-{turn}"))
            spent = time.monotonic() - start
            many = run(flags, arguments.devices, arguments.kills, spent, Path(place, f"many-{turn}"))
            best = math.nan
            if arguments.shards:
                best = side_by_side(flags, arguments.devices, Path(place, f"side-{turn}"))
            for a_run in (one, many):  # all rows but those of errors have to be the same
                rows = [row for row in json.loads(a_run.files["rows"]) if row["path"] not in many.errors]
                a_run.files["rows"] = json.dumps(rows).encode()
            differing = [name for name in one.files if one.files[name] != many.files.get(name)]
            ratios.append(many.pace / one.pace)
            print(
                f"one {one.pace:.1f} steps/s, {arguments.devices} workers {many.pace:.1f}: {ratios[-1]:.3f}; shards"
                f" side by side {best:.1f}: {best / one.pace:.3f};"
                f" {many.kills} kills; {many.closing}; files that differ: {', '.join(differing) or 'none'}"
                f" of {len(one.files)}; {len(many.rows)} rows of {len(one.rows)}, {len(set(many.rows))} different;"
                f" errors: {', '.join(many.errors) or 'none'}",
                flush=True,
            )
    print(f"median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
