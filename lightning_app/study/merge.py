"""The shards of one study put together, in the order of the steps: read, see that they fit, write. Without torch."""

import itertools
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import yaml

from lightning_app.console.log import StudyLog
from lightning_app.data.environment import Content, differences, format_differences, number_of
from lightning_app.data.example import Example
from lightning_app.errors import DONE, DONE_WITH_ERRORS, BadInputError
from lightning_app.files import yaml_as
from lightning_app.store.files import TENSORBOARD, folder_name, left_without_store, sample_sha256
from lightning_app.store.lock import is_held
from lightning_app.store.predictions import copy_predictions
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import (
    FORMAT,
    STORE,
    CommandLine,
    EnvironmentLine,
    Shard,
    StoredStudy,
    StudyLine,
    Target,
    line_bytes,
    places_by_difficulty,
    read_study,
)
from lightning_app.store.tensorboard import Curves, TensorBoardFolder, shown_examples
from lightning_app.study.finalize import finalize, log_summary

log = logging.getLogger("lightning_app")


class _Settings(msgspec.Struct):
    """What a merged study needs to know of its shards' settings."""

    model_name: str
    seed: int
    tensorboard_examples: int


@dataclass(frozen=True)
class ShardStudy:
    """A shard, read.

    Args:
        folder: Where it is.
        shard: Which part.
        study: What its log says.
        settings: Of it.
        config: Its `config.yaml`.
    """

    folder: Path
    shard: Shard
    study: StoredStudy
    settings: _Settings
    config: Content


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
    for part in parts:
        require_losses(part)
    first = parts[0]
    with StudyLog() as study_log:
        beside = Path(os.path.relpath(first.folder.absolute().parent))
        folder = StudyFolder((output_dir or beside) / folder_name(first.settings.model_name))
        if any(folder.folder.exists() and folder.folder.samefile(part.folder) for part in parts):
            raise BadInputError(
                f"--output_dir: {folder.folder} is one of the shards: choose another, or rename the shard"
            )
        with folder.locked():
            aside = folder.move_aside() if overwrite else None
            if aside is not None:
                log.info("The study that was here is now in %s", aside)
            settled = {} if output_dir is None else {"output_dir": str(output_dir)}
            log.info("Merging %d shards: %d examples", len(parts), first.shard.examples)
            folder.install(merged_lines(parts, settled))
            study_log.to_file(folder.folder / f"merge_{datetime.now():%Y%m%d-%H%M%S}.log")
            for part in parts:
                copy_predictions(part.folder, folder.folder)
            _show(first, folder)
            log_summary(finalize(folder), folder.study)
        errors = sum(stored.line.outcome == "error" for stored in folder.study.examples.values())
        if errors:
            log.warning("%d examples are errors; run with the shards' flags, but without --shard, tries them again",
                        errors)  # fmt: skip
    return DONE_WITH_ERRORS if errors else DONE


def read_part(folder: Path) -> ShardStudy:
    """Reads a shard.

    Raises:
        BadInputError: If there is none, or it isn't complete.
    """
    try:
        if not folder.is_dir():
            raise ValueError("there is no such folder")
        study = read_study(folder)
        if study is None:
            raise ValueError(left_without_store(folder) or f"there is no {STORE}")
        shard = study.target.shard
        if shard is None:
            raise BadInputError(f"{folder} is no shard, but a whole study: shards are what run --shard makes")
        if is_held(folder):
            raise BadInputError(f"{folder}: a run is writing to it; wait for its end")
        if left := study.left:
            raise BadInputError(
                f"{folder} is not complete: {left} of its {len(study.sampled)} examples are left; rerun its own"
                " command to resume it"
            )
        settings = msgspec.convert(study.command.settings, _Settings)
        config = yaml_as(dict[str, object], study.command.config)
    except BadInputError:
        raise
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadInputError(f"{folder} holds no shard that can be read: {reason}") from None
    return ShardStudy(folder, shard, study, settings, config)


def require_whole(parts: Sequence[ShardStudy], mixed: bool) -> None:
    """Sees that shards make up one study, each there once.

    Args:
        parts: By number.
        mixed: Whether their rows may be of several environments.

    Raises:
        BadInputError: If they don't, with the folders.
    """
    first = parts[0]
    for part in parts[1:]:
        if differing := differences(first.study.identity, part.study.identity):
            raise BadInputError(
                f"{part.folder} is of another study than {first.folder}:"
                f" {format_differences(differing, first.folder, part.folder)}"
            )
        one, other = (
            {**msgspec.structs.asdict(of.shard), "number": 0, "max_steps": of.study.target.max_steps_per_example}
            for of in (first, part)
        )
        if differing := differences(one, other):
            raise BadInputError(
                f"{part.folder} is a shard of another sample than {first.folder}:"
                f" {format_differences(differing, first.folder, part.folder)}"
            )
        for environment in (*first.study.environments_in_use, *part.study.environments_in_use):
            differing = differences(first.study.environments_in_use[-1], environment)
            if differing and not mixed:
                raise BadInputError(
                    f"the rows of {first.folder} and {part.folder} were made in several environments:"
                    f" {format_differences(differing)}. Their last bits may differ: --allow_mixed_environment merges"
                    " them still"
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
    if sample_sha256(path for _, path in _whole_sample(parts)) != first.shard.sample_sha256:
        raise BadInputError(
            f"{first.folder} and its {len(parts) - 1} fellows don't have the sample that was drawn: one of them was"
            " changed"
        )


def require_losses(part: ShardStudy) -> None:
    """Reads every loss of a shard, before anything is written.

    Raises:
        BadInputError: If one is not what its example's outcome says.
    """
    try:
        for _ in part.study.with_losses(part.study.examples):
            pass
    except (OSError, ValueError) as error:
        raise BadInputError(f"{part.folder} holds no shard that can be read: {error}") from None


def _whole_sample(parts: Sequence[ShardStudy]) -> list[tuple[int | float, str]]:
    return sorted(example for part in parts for example in part.study.target.examples)


def merged_lines(parts: Sequence[ShardStudy], settled: Mapping[str, object]) -> Iterator[bytes]:
    """The log of the whole study: what its shards say, each example once, easiest first.

    Args:
        parts: By number; they make up one study.
        settled: Settings that are others now.
    """
    first = parts[0]
    target = first.study.target
    command = first.study.command
    config = yaml.safe_dump({**first.config, **settled, "shard": None}, sort_keys=False, allow_unicode=True)
    yield line_bytes(StudyLine(FORMAT, first.study.identity))
    environments: dict[int, Content] = {}
    for environment in (there for part in parts for there in part.study.environments_in_use):
        if number_of(environment, environments) is None:
            environments[number := len(environments) + 1] = environment
            yield line_bytes(EnvironmentLine(number, environment))
    yield line_bytes(Target(target.max_steps_per_example, tuple(_whole_sample(parts))))
    counts = {**command.counts, "sampled": first.shard.examples}
    yield line_bytes(CommandLine(config, {**command.settings, **settled}, counts, command.ranking))
    # An example beyond a shard's sample, from when that was another, may be in the sample of its neighbour.
    home = {path: part for part in parts for path in part.study.examples}
    home |= {path: part for part in parts for path in part.study.sampled & part.study.examples.keys()}
    ranks = {path: part.study.examples[path].line.rank for path, part in home.items()}
    for path in places_by_difficulty(ranks):
        study = home[path].study
        (line,) = study.lines_of([path])
        if line.steps:
            line.environment = number_of(study.environments[line.environment], environments) or 0
        yield line_bytes(line)


def _show(first: ShardStudy, folder: StudyFolder) -> None:
    """TensorBoard's folder, where the shards had one."""
    if (first.folder / TENSORBOARD).is_dir():
        study = folder.study
        examples = [Example(0, path, Path(), 0, stored.line.rank) for path, stored in study.examples.items()]
        shown = shown_examples(examples, first.settings.seed, first.settings.tensorboard_examples)
        digits = len(str(study.command.counts.get("ranked", 0)))
        with Curves([TensorBoardFolder(folder.folder / TENSORBOARD)], shown, digits) as curves:
            curves.keep(study)
