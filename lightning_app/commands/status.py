"""`status`: where a study stands."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from lightning_app.commands.parser import Parser
from lightning_app.errors import say
from lightning_app.store.status import Status, status_of


def parser() -> Parser:
    """What `status` takes."""
    parser = Parser(
        "status", "Where a study stands: what is done, what is left and how long that takes, also while it runs."
    )
    parser.add_argument("folder", type=Path, help="the study's folder, such as outputs/MODEL")
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parser


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    arguments = parser().parse(argv)
    status = status_of(arguments.folder)
    say(json.dumps(asdict(status), indent=2, ensure_ascii=False) if arguments.json else format_status(status))
    return 0


def format_status(status: Status) -> str:
    """The status for a terminal."""
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in status.outcomes.items()) or "none yet"
    lines = [
        f"{status.folder}: {status.state}",
        f"Done       {status.done} of {status.examples} examples, {status.left} left",
        f"Outcomes   {outcomes}",
    ]
    if again := sum(status.outcomes.values()) - status.done:
        lines.append(f"           {again} of them are trained again, with up to {status.max_steps_per_example} steps")
    if status.state != "running" and (errors := status.outcomes.get("error")):
        lines.append(f"           rerun its last command to try the {errors} with an error again")
    if status.beyond_the_sample:
        lines.append(f"           and {status.beyond_the_sample} rows that are not in the sample")
    # How many trained what is there, nobody has written down.
    each = "" if status.state == "running" else " by one device"
    if status.steps_per_second is not None:
        rate = f"{status.steps_per_second:.1f} steps/s, {status.examples_per_hour:.0f} examples/hour"
        lines.append(f"Rate       {rate}{each}")
    if status.left and status.seconds_left is not None:
        left = timedelta(seconds=round(status.seconds_left))
        lines.append(f"Time left  {left} at the pace of the last examples{each}")
    lines += [f"Worker {worker.describe().removeprefix('worker ')}" for worker in status.workers]
    if status.state == "stopped":
        lines.append("           rerun its last command to resume; config.yaml has it")
    lines.append(f"Last error {status.last_error or 'none'}")
    return "\n".join(lines)
