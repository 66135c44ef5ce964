"""Measures the engines side by side on classifiers with random weights: `bench`, as a table for the lab notes.

    python scripts/speed_of_the_engines.py            a CPU: about ten minutes
    python scripts/speed_of_the_engines.py --gpu      a CUDA GPU, and there a table over the number of slots: hours
    python scripts/speed_of_the_engines.py --gpu --case resnet34 --slots 1,8,32 --repeats 3      a part of it

Weights, images and labels are made up: a step's time doesn't depend on them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Case:
    """A classifier at an input size.

    Args:
        architecture: timm's.
        size: Of its input, in pixels.
        steps: Of an example.
        repeats: The shorter a turn, the more.
    """

    architecture: str
    size: int
    steps: int
    repeats: int


ON_A_CPU = (Case("test_resnet", 32, 50, 41), Case("test_resnet", 160, 30, 15), Case("resnet18", 224, 12, 7))
ON_A_GPU = tuple(
    Case(name, 224, 100, 5) for name in ("resnet34", "resnet18", "efficientvit_b0", "vit_tiny_patch16_224")
)
SLOTS = (1, 2, 4, 8, 16, 32, 64)


def make_model(architecture: str, size: int, folder: Path) -> str:
    """Saves a classifier with random weights as timm reads it, and gives its name for --model_name."""
    torch.manual_seed(0)
    network = timm.create_model(architecture, num_classes=1000)
    where = folder / f"{architecture}_{size}"
    where.mkdir()
    save_file(network.state_dict(), where / "model.safetensors")
    own = network.pretrained_cfg
    (where / "config.json").write_text(
        json.dumps(
            {
                "architecture": architecture,
                "num_classes": 1000,
                "pretrained_cfg": {
                    "input_size": [3, size, size],
                    "num_classes": 1000,
                    **{key: own[key] for key in ("mean", "std", "interpolation", "first_conv", "classifier")},
                },
            }
        )
    )
    return f"local-dir:{where}"


def bench(case: Case, model: str, *flags: str) -> dict[str, Any]:
    """One bench; a difference between the engines is shown in the table and ends nothing."""
    command = [sys.executable, "-m", "lightning_app", "bench", "--json", "--model_name", model, "--repeats",
               str(case.repeats), "--max_steps_per_example", str(case.steps), *flags]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def spread(values: dict[str, float], digits: int) -> str:
    """A median with its ends."""
    median, low, high = (f"{values[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def rows(case: Case, found: dict[str, Any]) -> list[Sequence[str]]:
    """The table's rows, an engine each."""
    return [
        (
            f"{case.architecture} {case.size}",
            line["engine"],
            str(line["slots"]),
            f"{line['steps']:,}",
            spread(line["steps_per_second"], 1),
            spread(line["speed_ratio"], 2),
            "—" if line["gpu_bytes"] is None else f"{line['gpu_bytes'] / 1e6:,.0f}",
            "—" if line["share_of_roof"] is None else f"{100 * line['share_of_roof']:.1f}",
            "yes" if not line["differences"] else f"{len(line['differences'])} of {line['compared']} differ",
        )
        for line in found["engines"]
    ]


COLUMNS = ("model", "engine", "at once", "steps", "steps/s", "x plain", "GPU MB", "% of the roof", "equal")


def show(*table: Sequence[str]) -> None:
    """Prints rows of a markdown table, now: who ends a run of hours early has those that are done."""
    for row in table:
        print(f"| {' | '.join(row)} |", flush=True)


HEADER = (COLUMNS, ["---"] * len(COLUMNS))


def counts(text: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    numbers = tuple(int(number) for number in text.split(",") if number)
    if min(numbers, default=1) < 1:
        raise ValueError(text)
    return numbers


def asked_for() -> tuple[bool, list[Case], tuple[int, ...]]:
    """Whether a GPU is to be measured, which cases, and with which numbers of slots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="larger models, and a table over the number of slots")
    parser.add_argument("--case", action="append", metavar="NAME", help="only this architecture; may be given again")
    parser.add_argument(
        "--slots", type=counts, metavar="N[,N...]",
        help=f"in the table over slots (default: {','.join(map(str, SLOTS))}); '' for no such table",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, metavar="N", help="turns of each engine (default: more for short ones)")
    options = parser.parse_args()
    cases = ON_A_GPU if options.gpu else ON_A_CPU
    names = dict.fromkeys(case.architecture for case in cases)
    for name in options.case or ():
        if name not in names:
            parser.error(f"argument --case: {name!r} is not one of {', '.join(names)}")
    if options.slots and not options.gpu:
        parser.error("argument --slots: there is one slot without --gpu")
    slots = SLOTS if options.gpu and options.slots is None else options.slots or ()
    chosen = [case for case in cases if case.architecture in (options.case or names)]
    if options.repeats is not None:
        chosen = [replace(case, repeats=options.repeats) for case in chosen]
    return options.gpu, chosen, slots


def main() -> None:
    """Measures all that is asked for."""
    is_gpu, cases, numbers_of_slots = asked_for()
    flags = ("--trainer.accelerator", "gpu" if is_gpu else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        models = {case: make_model(case.architecture, case.size, Path(folder)) for case in cases}
        for case, model in models.items():
            found = bench(case, model, *flags)
            if case == cases[0]:
                print(json.dumps(found["environment"]), "\n")
                show(*HEADER)
            show(*rows(case, found))
        if numbers_of_slots:
            print()
            show(*HEADER)
        for case, model in models.items():
            for slots in numbers_of_slots:
                found = bench(case, model, *flags, "--engines", "plain,slots", "--slots", str(slots))
                show(*(row for row in rows(case, found) if row[1] == "slots"))


if __name__ == "__main__":
    main()
