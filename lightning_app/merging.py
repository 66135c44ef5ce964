"""The shards of one study put together, in the order of the steps: read, see that they fit, write. Without torch."""

import itertools
import json
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from lightning_app.concluding import Account, conclude, say_closing
from lightning_app.errors import BadInputError, StorageError
from lightning_app.exit_codes import DONE, DONE_WITH_ERRORS
from lightning_app.inputs.example import Example
from lightning_app.outside import OutsideError, json_as, read_regular, yaml_as
from lightning_app.progress import StudyLog
from lightning_app.results.answers import copy_answers
from lightning_app.results.fingerprint import Fingerprint, Goal, Shard, Stretch, differences, told
from lightning_app.results.lock import is_held
from lightning_app.results.records import Row, path_of, rank_of
from lightning_app.results.resuming import gave_up_earlier, numbered
from lightning_app.results.run_folder import RunFolder
from lightning_app.results.study_files import (
    CONFIG,
    READ,
    SUMMARY,
    TENSORBOARD,
    folder_name,
    read_study,
    require_no_links,
    sample_sha256,
    step_log_of,
)
from lightning_app.results.tensorboard import Curves, TensorBoardFolder, shown_examples

log = logging.getLogger("lightning_app")

Content = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A shard's folder, read.

    Args:
        folder: Where it is.
        shard: Which part.
        fingerprint: Its `run.json`.
        rows: Its table.
        summary: Its summary.
        config: Its `config.yaml`.
    """

    folder: Path
    shard: Shard
    fingerprint: Fingerprint
    rows: list[Row]
    summary: dict[str, Any]
    config: dict[str, Any]

    @property
    def sample(self) -> list[Row]:
        """The rows of its sample."""
        beyond = frozenset(self.fingerprint.goal.beyond)
        return [row for row in self.rows if path_of(row) not in beyond]


def merge(folders: Sequence[Path], output_dir: Path | None, mixed: bool, overwrite: bool) -> int:
    """Merges shards into one folder, which equals that of a run without shards.

    Args:
        folders: The shards', all of one study.
        output_dir: The merged folder goes there, under the model's name; by default beside the first shard.
        mixed: Whether the shards' rows may be of several environments.
        overwrite: Whether a study that is there already is moved aside.

    Returns:
        The exit code.

    Raises:
        BadInputError: If they don't make up one study; nothing is written then.
        StorageError: If it can't be written.
    """
    parts = sorted((read_part(folder) for folder in folders), key=lambda part: part.shard.number)
    require_whole(parts, mixed)
    first = parts[0]
    model_name = str(first.summary["settings"]["model_name"])
    with StudyLog() as study_log:
        folder = RunFolder(
            (output_dir or Path(os.path.relpath(first.folder.absolute().parent))) / folder_name(model_name)
        )
        if any(folder.folder.exists() and folder.folder.samefile(part.folder) for part in parts):
            raise BadInputError(
                f"--output_dir: {folder.folder} is one of the shards: choose another, or rename the shard"
            )
        with folder.locked():
            if overwrite:
                aside = folder.move_aside()
                if aside is not None:
                    log.info("The study that was here is now in %s", aside)
            elif folder.find() is not None:
                raise BadInputError(
                    f"--output_dir: {folder.folder} holds a study already; --overwrite moves it aside, another"
                    " --output_dir puts the merged one elsewhere"
                )
            study_log.to_file(folder.folder / f"merge_{datetime.now():%Y%m%d-%H%M%S}.log")
            log.info("Merging %d shards: %d examples", len(parts), sum(len(part.sample) for part in parts))
            return _write(parts, folder, {} if output_dir is None else {"output_dir": str(output_dir)})


def read_part(folder: Path) -> Part:
    """Reads a shard.

    Raises:
        BadInputError: If there is none, or it isn't complete.
    """
    try:
        if not folder.is_dir():
            raise ValueError("there is no such folder")
        require_no_links(folder, READ)
        study = read_study(folder)
        if study is None:
            raise ValueError("there is no run.json")
        fingerprint, table = study
        shard = fingerprint.goal.shard
        if shard is None:
            raise BadInputError(f"{folder} is no shard, but a whole study: shards are what run --shard makes")
        if is_held(folder):
            raise BadInputError(f"{folder}: a run is writing to it; wait for its end")
        sample = {*map(path_of, table.rows)} - {*fingerprint.goal.beyond}
        limit = fingerprint.goal.max_steps_per_example
        again = sum(gave_up_earlier(row, limit) for row in table.rows if path_of(row) in sample)
        left = fingerprint.goal.examples - len(sample) + again
        if left:
            raise BadInputError(
                f"{folder} is not complete: {left} of its {fingerprint.goal.examples} examples are left; its own"
                " command goes on"
            )
        for row in table.rows:
            if row["outcome"] != "error" and not step_log_of(folder, row).is_file():
                raise BadInputError(
                    f"{folder} has lost the step log of {path_of(row)!r}; its own command trains that example again"
                )
        if not (folder / SUMMARY).is_file():
            raise BadInputError(f"{folder} was stopped before its summary was written; its own command goes on")
        summary = _mapping(folder / SUMMARY, json_as)
        config = _mapping(folder / CONFIG, yaml_as)
        if not _is_summary(summary):
            raise ValueError(f"{SUMMARY} is not as it was written")
        if summary["counts"]["sampled"] != fingerprint.goal.examples:
            raise BadInputError(f"{folder} has grown since its summary was written; its own command goes on")
    except BadInputError:
        raise
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInputError(f"{folder} holds no shard that can be read: {reason}") from None
    return Part(folder, shard, fingerprint, table.rows, summary, config)


def _mapping(file: Path, read_as: Callable[[type[Content], bytes], Content]) -> Content:
    try:
        return read_as(dict[str, Any], read_regular(file, links=False))
    except OutsideError as error:
        raise ValueError(f"{file.name} is not as it was written ({error})") from None


def _is_summary(content: object) -> bool:
    """Whether that is a summary, as far as a merged one is made of it."""
    needed = {
        "settings": ("model_name", "epsilon", "seed", "tensorboard_examples"),
        "counts": ("ranked", "images_found", "images_missing", "sampled"),
        "timing": ("seconds",),
    }
    if not (isinstance(content, dict) and "ranking" in content):
        return False
    return all(isinstance(content.get(part), dict) and {*keys} <= {*content[part]} for part, keys in needed.items())


def require_whole(parts: Sequence[Part], mixed: bool) -> None:
    """Sees that shards make up one study, each there once.

    Args:
        parts: By number.
        mixed: Whether their rows may be of several environments.

    Raises:
        BadInputError: If they don't, with the folders.
    """
    first = parts[0]
    for part in parts[1:]:
        if differing := differences(first.fingerprint.identity, part.fingerprint.identity):
            raise BadInputError(
                f"{part.folder} is of another study than {first.folder}: {told(differing, first.folder, part.folder)}"
            )
        one, other = ({**vars(shard), "number": 0} for shard in (first.shard, part.shard))
        steps = [shard.fingerprint.goal.max_steps_per_example for shard in (first, part)]
        if differing := differences({**one, "max_steps": steps[0]}, {**other, "max_steps": steps[1]}):
            raise BadInputError(
                f"{part.folder} is a shard of another sample than {first.folder}:"
                f" {told(differing, first.folder, part.folder)}"
            )
        for environment in (stretch.environment for each in (first, part) for stretch in each.fingerprint.stretches):
            differing = differences(first.fingerprint.stretches[-1].environment, environment)
            if differing and not mixed:
                raise BadInputError(
                    f"the rows of {first.folder} and {part.folder} were made in several environments:"
                    f" {told(differing)}. Their last bits may differ: --allow_mixed_environment merges them still"
                )
    for one_part, next_part in itertools.pairwise(parts):
        if one_part.shard.number == next_part.shard.number:
            raise BadInputError(
                f"shard {one_part.shard.number} of {one_part.shard.of} is there twice: {one_part.folder} and"
                f" {next_part.folder}"
            )
    there = {part.shard.number for part in parts}
    if missing := [f"{number}/{first.shard.of}" for number in range(1, first.shard.of + 1) if number not in there]:
        raise BadInputError(
            f"{len(missing)} of {first.shard.of} shards missing: --shard {', '.join(missing[:10])}"
            f"{', ...' if len(missing) > 10 else ''}"
        )
    in_order = sorted((rank_of(row), path_of(row)) for part in parts for row in part.sample)
    if sample_sha256(path for _, path in in_order) != first.shard.sample_sha256:
        raise BadInputError(
            f"{first.folder} and its {len(parts) - 1} fellows don't have the sample that was drawn: one of their tables"
            " was changed"
        )


def _write(parts: Sequence[Part], folder: RunFolder, settled: Mapping[str, object]) -> int:
    sampled = {path_of(row) for part in parts for row in part.sample}
    home: dict[str, tuple[Part, Row]] = {}
    for part in parts:
        own = {path_of(row) for row in part.sample}
        # A row beyond a shard's sample, from when that was another, may be in the sample of its neighbour.
        home.update({p: (part, row) for row in part.rows if (p := path_of(row)) in own or p not in sampled})
    rows = numbered([row for _, row in home.values()])
    beyond = tuple(path_of(row) for row in rows if path_of(row) not in sampled)
    first = parts[0]
    for row in rows:
        if row["outcome"] != "error":
            part, there = home[path_of(row)]
            step_log = step_log_of(part.folder, there)
            try:
                losses = read_regular(step_log, links=False)
            except (OSError, OutsideError) as error:
                raise StorageError(f"{step_log} can't be read: {error}") from error
            folder.put_step_log(row, losses)
    os.sync()  # for all of them at once; until `start` there is no study
    goal = Goal(first.shard.examples, first.fingerprint.goal.max_steps_per_example, beyond)
    fingerprint = _fingerprint(parts, {path: part for path, (part, _) in home.items()}, goal)
    config = yaml.safe_dump({**first.config, **settled, "shard": None}, sort_keys=False, allow_unicode=True)
    folder.start(fingerprint, config, rows, rows)
    for part in parts:
        copy_answers(part.folder, folder.folder)
    _show(first, folder)
    settings = {**first.summary["settings"], **settled}
    account = Account(
        settings,
        {**{name: first.summary["counts"][name] for name in ("ranked", "images_found", "images_missing")},
         "sampled": first.shard.examples},
        first.summary["ranking"],
        settings["epsilon"],
        goal.max_steps_per_example,
    )  # fmt: skip
    seconds = sum(part.summary["timing"]["seconds"] for part in parts)
    closing, _ = conclude(account, frozenset(beyond), folder, seconds)
    say_closing(account, closing, folder)
    errors = sum(row["outcome"] == "error" for row in rows)
    if errors:
        log.warning("%d examples are errors; run with the shards' flags, but without --shard, tries them again", errors)
    return DONE_WITH_ERRORS if errors else DONE


def _fingerprint(parts: Sequence[Part], home: dict[str, Part], goal: Goal) -> Fingerprint:
    """The shards' fingerprints as one; the environment of most rows is its last stretch."""
    made: list[tuple[dict[str, object], str]] = []
    for part in parts:
        listed = {path: stretch for stretch in part.fingerprint.stretches for path in stretch.paths or ()}
        last = part.fingerprint.stretches[-1]
        made += [(listed.get(path, last).environment, path) for path, of in home.items() if of is part]
    counted = Counter(json.dumps(environment) for environment, _ in made)
    commonest = json.loads(counted.most_common(1)[0][0])
    trained_for = max(part.fingerprint.trained_for for part in parts)
    return Fingerprint(parts[0].fingerprint.identity, (Stretch(commonest),), goal, trained_for).with_rows_of(made)


def _show(first: Part, folder: RunFolder) -> None:
    """TensorBoard's folder, where the shards had one."""
    if (first.folder / TENSORBOARD).is_dir():
        settings = first.summary["settings"]
        examples = [Example(0, path, Path(), 0, rank_of(row)) for path, row in folder.rows.items()]
        shown = shown_examples(examples, settings["seed"], settings["tensorboard_examples"])
        digits = len(str(first.summary["counts"]["ranked"]))
        with Curves([TensorBoardFolder(folder.folder / TENSORBOARD)], shown, digits) as curves:
            curves.keep(list(folder.rows.values()), (), folder.losses_of)
