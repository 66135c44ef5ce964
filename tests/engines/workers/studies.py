"""Studies by several workers that are long enough to be killed in the middle, and what has to be the same of them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

from lightning_app.cli import main
from tests.conftest import MakeModel

EXAMPLES = 12
RESULTS = "single_example_results.csv"


def long_study(make_model: MakeModel, photographs: Path, where: Path) -> list[str]:
    """Flags of a study of twelve examples of 150 steps each, none of which ever reaches epsilon."""
    ranking = where / "ranking.csv"
    ranking.write_text("\n".join(str(file.relative_to(photographs)) for file in sorted(photographs.glob("*/*.jpg"))))
    return [
        "--model_name", make_model("test_resnet", "tiny"),
        "--examples_csv", str(ranking), "--root_dir", str(photographs),
        "--max_examples", str(EXAMPLES), "--select", "all", "--max_steps_per_example", "150", "--epsilon", "1e-12",
        "--lr", "0.001", "--trainer.accelerator", "cpu", "--tensorboard_examples", "0",
    ]  # fmt: skip


def by_one_device(flags: list[str], where: Path) -> dict[str, bytes]:
    """The files of the study by one device."""
    assert main(["run", *flags, "--output_dir", str(where)]) == 0
    return files(where / "tiny")


def files(folder: Path) -> dict[str, bytes]:
    """All that must be the same: the table without its seconds, step logs, picture, fingerprint."""
    with (folder / RESULTS).open(newline="") as stream:
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(stream)]
    logs = sorted((folder / "step_logs").iterdir())
    same = [*logs, folder / "steps_vs_difficulty.png", folder / "run.json"]
    return {"rows": json.dumps(rows).encode(), **{file.name: file.read_bytes() for file in same}}


def rows_in(folder: Path) -> int:
    """How many examples are on the disk."""
    return len((folder / RESULTS).read_text().splitlines()) - 1 if (folder / RESULTS).exists() else 0


def start(folder: Path, flags: list[str], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Starts a study in a session of its own, as a terminal would."""
    return subprocess.Popen(
        [sys.executable, "-m", "lightning_app", "run", *flags, "--output_dir", str(folder)],
        stderr=subprocess.PIPE, text=True, start_new_session=True, env=env,
    )  # fmt: skip
