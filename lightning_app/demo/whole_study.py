"""The demo, in the order of its steps: images, networks, matrix and ranking, study, what it means."""

import json
import logging
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from lightning_app.analysis.load import open_study
from lightning_app.analysis.summary import Summary, answer, format_summary, summarize
from lightning_app.console.log import StudyLog
from lightning_app.console.progress import progress_bar
from lightning_app.console.signals import exit_at_once
from lightning_app.demo.digits import DIGITS, SmallNetwork, steps, train_from_scratch, write_digits
from lightning_app.errors import DONE, BadInputError
from lightning_app.report.page import PAGE
from lightning_app.report.report import read_report, studies_on_page, write_report
from lightning_app.settings import CONFIGS
from lightning_app.store.files import PICTURE, RESULTS, STEP_LOGS, TENSORBOARD
from lightning_app.store.study_folder import is_complete
from lightning_app.store.study_log import FORMAT
from lightning_app.training.device import pin_numerics

log = logging.getLogger("lightning_app")

FOLDER = Path("demo")
"""In the current folder; `configs/digits.yaml` names the same places."""

IMAGES, TRAINING_IMAGES = FOLDER / "images", FOLDER / "training_images"
NETWORKS, POOL, OUTPUTS = FOLDER / "models", FOLDER / "pool", FOLDER / "outputs"
RANKING = "ranking.csv"
ON_THE_CPU = ("--trainer.accelerator", "cpu")
RECIPE, LOG = FOLDER / "recipe.json", FOLDER / "demo.log"


RunCommand = Callable[[Sequence[str]], int]
"""Runs one of the commands, by its words, and returns its exit code."""


@dataclass(frozen=True)
class Recipe:
    """How large the demo is; tests make it smaller.

    Args:
        training_images: How many of the digits the networks learn from; the others are studied.
        epochs: Passes over them.
        networks: The first is studied, the others say what is difficult.
        run_flags: For `run`, after those of the demo.
    """

    training_images: int = 300
    epochs: int = 20
    networks: tuple[SmallNetwork, ...] = (
        SmallNetwork("digits_mambaout", "test_mambaout"),
        SmallNetwork("digits_byobnet", "test_byobnet"),
        SmallNetwork("digits_convnext", "test_convnext"),
        SmallNetwork("digits_efficientnet", "test_efficientnet"),
        SmallNetwork("digits_resnet", "test_resnet"),
        SmallNetwork("digits_vit", "test_vit", {"img_size": 32}),
    )
    run_flags: tuple[str, ...] = ()


def run_demo(recipe: Recipe, run_command: RunCommand) -> int:
    """Makes what isn't there yet, runs the study, and says where everything is.

    Args:
        recipe: How large it is.
        run_command: The commands of which it consists.

    Returns:
        The exit code of `run`.

    Raises:
        BadInputError: If the folder can't be used.
    """
    study = OUTPUTS / recipe.networks[0].name
    try:
        with StudyLog() as demo_log, exit_at_once("; rerun the demo to resume"):
            claim_folder(recipe)
            demo_log.to_file(LOG)
            pin_numerics("cpu")
            write_images(recipe)
            train_networks(recipe)
    except OSError as error:
        raise BadInputError(f"the demo needs {FOLDER.absolute()}, and that failed: {error}") from error
    exit_code = rank_images(recipe, run_command)
    if exit_code != DONE:
        return exit_code
    was_there = is_complete(study)
    if was_there:
        print(f"\n4. The study is there already ({study})\n", file=sys.stderr)
        print(format_summary(summary_of(study)))
    else:
        argv = ["run", "--config", "digits", "--output_dir", str(OUTPUTS), *recipe.run_flags]
        print(f"\n4. The study: steps-to-epsilon {shlex.join(argv)}", file=sys.stderr)
        exit_code = run_command(argv)
    if is_complete(study):
        if was_there and (study / PAGE).is_file():
            print(f"5. The report is there already ({study / PAGE})", file=sys.stderr)
        else:
            print(f"5. The report: steps-to-epsilon report {shlex.quote(str(study))}", file=sys.stderr)
            report = read_report([study])
            write_report(report, study, studies_on_page(report))
        print(format_results(study))
    return exit_code


def claim_folder(recipe: Recipe) -> None:
    """Makes the demo's folder, or sees that the one that is there is this demo's.

    Raises:
        BadInputError: If it is something else: nothing of it is touched.
    """
    study = (CONFIGS / "digits.yaml").read_text(encoding="utf-8")
    content = {"recipe": asdict(recipe), "study": study.splitlines(), "format": FORMAT}
    text = json.dumps(content, indent=2) + "\n"
    if not RECIPE.is_file() and FOLDER.is_dir() and any(FOLDER.iterdir()):
        raise BadInputError(
            f"the demo writes to {FOLDER.absolute()}, but that folder is of something else: move it away, or start the"
            " demo in another folder"
        )
    if RECIPE.is_file() and RECIPE.read_text(encoding="utf-8") != text:
        raise BadInputError(f"{FOLDER.absolute()} was made by another version of the demo: move it away to start anew")
    FOLDER.mkdir(exist_ok=True)
    RECIPE.write_text(text, encoding="utf-8")


def write_images(recipe: Recipe) -> None:
    """Writes the digits: some to learn from, the others to study."""
    log.info("1. Images: scikit-learn's digits as PNG files, %d to train on in %s, %d to study in %s",
             recipe.training_images, TRAINING_IMAGES, DIGITS - recipe.training_images, IMAGES)  # fmt: skip
    make_once(TRAINING_IMAGES, lambda folder: write_digits(folder, 0, recipe.training_images))
    make_once(IMAGES, lambda folder: write_digits(folder, recipe.training_images, DIGITS))


def train_networks(recipe: Recipe) -> None:
    """Trains the networks that the study takes for pretrained."""
    log.info("2. Networks: %d small timm architectures, trained from scratch, in %s", len(recipe.networks), NETWORKS)
    each = steps(recipe.training_images, recipe.epochs)
    with progress("Training", each * len(recipe.networks), "step") as bar:
        for network in recipe.networks:
            folder = NETWORKS / network.name
            if not make_once(folder, partial(train_from_scratch, network, TRAINING_IMAGES, recipe.epochs, bar.update)):
                bar.update(each)


def rank_images(recipe: Recipe, run_command: RunCommand) -> int:
    """Asks all networks about the images, and ranks these by all networks but the one that is studied.

    Returns:
        An exit code.
    """
    if (POOL / RANKING).is_file():
        print(f"3. The correctness matrix and the ranking are there already ({POOL})", file=sys.stderr)
        return DONE
    models = ",".join(f"local-dir:{NETWORKS / network.name}" for network in recipe.networks)
    argv = ["evaluate", "--models", models, "--root_dir", str(IMAGES), "--output_dir", str(POOL), *ON_THE_CPU]
    print(f"\n3. Who gets what right: steps-to-epsilon {shlex.join(argv)}", file=sys.stderr)
    exit_code = run_command(argv)
    if exit_code != DONE:
        return exit_code
    argv = ["rank", str(POOL), "--without", recipe.networks[0].name, "--output_csv", str(POOL / RANKING)]
    print(f"\n   By universal difficulty: steps-to-epsilon {shlex.join(argv)}", file=sys.stderr)
    return run_command(argv)


def make_once(folder: Path, make: Callable[[Path], None]) -> bool:
    """Makes a folder whole or not at all; one that is there is left as it is.

    Args:
        folder: Which.
        make: Fills an empty folder.

    Returns:
        Whether it was made.
    """
    if folder.is_dir():
        return False
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    unfinished.mkdir(parents=True)
    make(unfinished)
    unfinished.rename(folder)
    return True


def progress(what: str, total: int, unit: str) -> "tqdm[NoReturn]":
    """A bar with a rate and the time left."""
    return progress_bar(total=total, desc=what, unit=unit)


def summary_of(study: Path) -> Summary:
    """The statistics of a study that is there."""
    return summarize(open_study(study))


def format_results(study: Path) -> str:
    """Where everything is and what it means, in six lines."""
    summary = summary_of(study)
    return f"""
Page      {study / PAGE}: open it in a browser; every image with its loss curve, the statistics
Picture   {study / PICTURE}: a point an image; right: more steps, up: harder for the other networks
Table     {study / RESULTS}: a row an image; {STEP_LOGS}/ beside it: its loss at every step
Curves    tensorboard --logdir {study / TENSORBOARD}
Meaning   {answer(summary)}
By hand   steps-to-epsilon run --config digits: the same study into outputs/; your own images: see the README"""
