"""Every command in the README is parsed by the program that it is for, and everything that it names is there."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
from tensorboard.program import TensorBoard

from lightning_app.cli import COMMANDS
from lightning_app.commands.bench import Bench
from lightning_app.commands.demo import parser as demo_parser
from lightning_app.commands.evaluate import Evaluate
from lightning_app.commands.fit import Fit
from lightning_app.commands.merge import parser as merge_parser
from lightning_app.commands.plan import Plan
from lightning_app.commands.rank import parser as rank_parser
from lightning_app.commands.report import parser as report_parser
from lightning_app.commands.run import Run
from lightning_app.commands.status import parser as status_parser
from lightning_app.commands.validate import Validate
from lightning_app.settings import BenchSettings, EvaluationSettings, PlanSettings
from lightning_app.store.files import TENSORBOARD
from tests.analysis.test_load import write_study

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("#")]
PLAIN = {
    "demo": demo_parser, "rank": rank_parser, "report": report_parser, "merge": merge_parser, "status": status_parser,
}  # fmt: skip
LIGHTNING = {"evaluate": Evaluate, "plan": Plan, "run": Run, "bench": Bench, "fit": Fit, "validate": Validate}
INLINE = re.findall(r"`(steps-to-epsilon \w+[^`]*|make \w+)`", README)


@pytest.mark.parametrize("line", [*LINES, *INLINE])
def test_every_command_is_parsed(line: str) -> None:
    Path("IMAGES").mkdir()
    program, *argv = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "3"), comments=True)
    if program == "steps-to-epsilon":
        name, *flags = argv
        if flags == ["--help"]:
            assert name in COMMANDS
        elif name in PLAIN:
            PLAIN[name]().parse_args(flags)
        else:
            LIGHTNING[name](flags)
    elif program == "make":
        (target,) = argv
        assert re.search(rf"^{target}:.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    elif program == "tensorboard":
        board = TensorBoard()
        board.configure(("tensorboard", *argv))
        assert Path(board.flags.logdir).parts[-1] == TENSORBOARD
    elif program == "pip":
        assert argv in (["install", "."], ["install", ".[ray]"])  # tests/test_packaging.py builds what it installs
    else:  # of a shell, of Slurm, or Ray's: the next test; `ray start` behind srun has the flags of the others
        assert program in ("export", "srun", "sleep", "ray")


PARSE_RAY = """
import json, sys
from ray.scripts.scripts import cli
for argv in json.load(sys.stdin):
    with cli.make_context("ray", argv) as context:
        _, command, flags = cli.resolve_command(context, argv)
        command.make_context("ray", flags)
"""


def test_every_line_of_rays_is_parsed() -> None:
    lines = [shlex.split(line, comments=True)[1:] for line in LINES if line.startswith("ray ")]
    assert [line[0] for line in lines] == ["get-auth-token", "start", "start", "stop"]
    # In a process of its own: Ray keeps for good what it finds in the environment when it is loaded.
    subprocess.run([sys.executable, "-c", PARSE_RAY], input=json.dumps(lines), text=True, check=True)


def test_there_are_the_commands_that_a_reader_looks_for() -> None:
    assert LINES[0].startswith("make demo")
    assert LINES[1].startswith("make test")
    seeds = ("--config quickstart", "--model_name resnet18.a1_in1k --max_examples 100 --max_steps_per_example 1000")
    for seed in seeds:
        assert any(line.startswith(f"steps-to-epsilon run {seed}") for line in LINES)
    assert {line.split()[1] for line in LINES if line.startswith("steps-to-epsilon")} == set(COMMANDS)
    assert {*PLAIN, *LIGHTNING} == set(COMMANDS)


def test_the_lines_for_a_notebook_run() -> None:
    for name in ("MODEL_A", "MODEL_B"):
        write_study(Path("outputs", name))
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    found: dict[str, object] = {}
    exec(code, found)
    frame = found["frame"]
    assert isinstance(frame, pd.DataFrame)
    assert frame["study"].unique().tolist() == ["MODEL_A", "MODEL_B"]


def test_the_map_names_every_file() -> None:
    package = REPOSITORY / "lightning_app"
    for file in [*package.rglob("*.py"), *package.glob("page/browser/*")]:
        assert file.name in README or file.name.startswith("__"), file
    titles = re.findall(r"^#+ (.*)", README, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    for link in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert link in anchors or (REPOSITORY / link).exists(), link


def test_every_flag_that_is_named_is_there() -> None:
    settings = {
        field.name for command in (PlanSettings, EvaluationSettings, BenchSettings) for field in fields(command)
    }
    others = {"help", "config", "print_config", "data.path", "data.label", "logdir"}
    others |= {action.dest for parser in (rank_parser, report_parser, merge_parser) for action in parser()._actions}
    of_others = [line for block in BLOCKS for line in block.splitlines() if re.match("#SBATCH|srun|ray ", line)]
    others |= {word for line in of_others for word in re.findall(r"--([a-z_]+)", line)}
    trainer = {f"trainer.{name}" for name in vars(Run([]).config["trainer"])} | {"trainer.logger.save_dir"}
    for flag in re.findall(r"(?<![\w-])--([a-z_]+(?:\.[a-z_]+)*)", README):
        assert flag in settings | others | trainer
