"""README and docs: every command is parsed by the program that it is for, and what they name and promise is there."""

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

from lightning_app import load_results, load_steps
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
from lightning_app.store.export import COLUMNS
from lightning_app.store.files import TENSORBOARD
from tests.analysis.test_load import write_study

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()
# The lab notes are dated, and what they name was there at the time.
FILES = [page for page in sorted((REPOSITORY / "docs").rglob("*.md")) if page.stem != "lab-notes"]
PAGES = {page.name: page.read_text() for page in FILES if "_build" not in page.parts}
TEXT = "\n".join([README, *PAGES.values()])
BLOCKS = re.findall(r"^```bash\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("#")]
PLAIN = {
    "demo": demo_parser, "rank": rank_parser, "report": report_parser, "merge": merge_parser, "status": status_parser,
}  # fmt: skip
LIGHTNING = {"evaluate": Evaluate, "plan": Plan, "run": Run, "bench": Bench, "fit": Fit, "validate": Validate}
INLINE = re.findall(r"`(steps-to-epsilon \w+[^`]*|make [\w-]+)`", TEXT)


@pytest.mark.parametrize("line", sorted({*LINES, *INLINE}))
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
    found: dict[str, object] = {}
    for code in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        exec(code, found)
    frame = found["frame"]
    assert isinstance(frame, pd.DataFrame)
    assert frame["study"].unique().tolist() == ["MODEL_A", "MODEL_B"]


def first_cells(page: str, title: str) -> list[tuple[str, str]]:
    """The first two cells of each row of the tables below a heading, without backticks."""
    (section,) = re.findall(rf"^#+ {title}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    tables = re.findall(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", section, re.MULTILINE)
    return re.findall(r"^\| (.*?) \| (.*?) \|", "".join(tables).replace("`", ""), re.MULTILINE)


@pytest.mark.parametrize("of_a_csv", [False, True])
@pytest.mark.parametrize("epsilon", [None, 0.05])
def test_the_promised_columns_are_those_that_are_returned(epsilon: float | None, of_a_csv: bool) -> None:
    place = write_study(Path("outputs", "MODEL"))
    if of_a_csv:
        (place / "study.jsonl").unlink()
        (place / "run.json").unlink()
        place /= "single_example_results.csv"
    text = str(pd.DataFrame({"text": ["a"]})["text"].dtype)
    promised = [
        (name.format(epsilon=epsilon), dtype.replace("text", text))
        for name, dtype in first_cells(PAGES["api.md"], "Columns of load_results")
        if epsilon is not None or "{" not in name
    ]
    frame = load_results(place, epsilon=epsilon)
    assert [(name, str(frame[name].dtype)) for name in frame] == promised
    promised = [(name, dtype) for name, dtype in first_cells(PAGES["api.md"], "Columns of load_steps")]
    curve = load_steps(place, 0)
    assert [(name, str(curve[name].dtype)) for name in curve] == promised


def test_every_column_of_the_results_is_explained() -> None:
    cells = first_cells(PAGES["files.md"], "Columns of the results")
    assert {name for cell, _ in cells for name in cell.split(", ")} == set(COLUMNS)


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len(README.splitlines()) <= 220


def test_the_map_is_of_what_is_there() -> None:
    package = REPOSITORY / "lightning_app"
    named = [name for name, _ in first_cells(README, "Map of the code")]
    files = [file.relative_to(package) for kind in ("*.py", "*.yaml") for file in package.rglob(kind)]
    there = {f"{file.parts[0]}/" if len(file.parts) > 1 else file.name for file in files if file.name[0] != "_"}
    assert sorted(named) == sorted([*there, "scripts/", "tests/", "docs/"])


def anchors(text: str) -> set[str]:
    """Its headings as they are linked to."""
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_somewhere(name: str) -> None:
    """Those of docs/ are followed when they are built."""
    for link in re.findall(r"\]\(((?!https?:)[^)]*)\)", (REPOSITORY / name).read_text()):
        file, _, anchor = link.partition("#")
        target = REPOSITORY / (file or name)
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_every_flag_that_is_named_is_there() -> None:
    settings = {
        field.name for command in (PlanSettings, EvaluationSettings, BenchSettings) for field in fields(command)
    }
    others = {"help", "config", "print_config", "data.path", "data.label", "logdir"}
    others |= {action.dest for parser in (rank_parser, report_parser, merge_parser) for action in parser()._actions}
    of_others = [line for block in BLOCKS for line in block.splitlines() if re.match("#SBATCH|srun|ray ", line)]
    others |= {word for line in of_others for word in re.findall(r"--([a-z_]+)", line)}
    trainer = {f"trainer.{name}" for name in vars(Run([]).config["trainer"])} | {"trainer.logger.save_dir"}
    for flag in re.findall(r"(?<![\w-])--([a-z_]+(?:\.[a-z_]+)*)", TEXT):
        assert flag in settings | others | trainer
