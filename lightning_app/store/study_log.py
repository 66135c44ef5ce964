"""A study as its log `study.jsonl` has it: what its lines are, and what follows from all of them."""

import base64
import binascii
import json
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from lightning_app.data.environment import Content
from lightning_app.data.example import Rank
from lightning_app.data.stop_rule import NEVER, Outcome
from lightning_app.data.trajectory import Failure, Result
from lightning_app.files import MAX_DIGITS, OutsideError, json_as, open_regular
from lightning_app.store.log import whole_lines

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

STORE = "study.jsonl"
FORMAT = 3
"""Of the store; 1 and 2 were a table, step logs and `run.json`, without one."""

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
StepCount = Annotated[int, msgspec.Meta(ge=NEVER, le=10**12)]
Number = float | Literal["nan", "inf", "-inf"]
"""JSON has no word for what is not finite."""


class Shard(msgspec.Struct, frozen=True):
    """A part of a sample: every so many-th example by difficulty.

    Args:
        number: Which part, from 1.
        of: How many there are.
        examples: Of the whole sample.
        sample_sha256: Of its paths, easiest first.
    """

    number: Count
    of: Count
    examples: Count
    sample_sha256: str


class StudyLine(msgspec.Struct, frozen=True, tag_field="kind", tag="study"):
    """The first line.

    Args:
        format: Of the store.
        identity: All that a number depends on.
    """

    format: int
    identity: Content


class EnvironmentLine(msgspec.Struct, frozen=True, tag_field="kind", tag="environment"):
    """Where examples are trained.

    Args:
        number: From 1, by which examples name it.
        environment: Versions, device, threads.
    """

    number: Count
    environment: Content


class Target(msgspec.Struct, frozen=True, tag_field="kind", tag="target"):
    """What the study is to become; the last one stands.

    Args:
        max_steps_per_example: Its limit.
        examples: Rank and path of each in its sample, easiest first.
        shard: Which part of a sample that is; None for a whole one.
    """

    max_steps_per_example: Count
    examples: tuple[tuple[Rank, str], ...]
    shard: Shard | None = None


class CommandLine(msgspec.Struct, frozen=True, tag_field="kind", tag="command"):
    """What was asked for; the last one stands.

    Args:
        config: The text of `config.yaml`.
        settings: Those that a number depends on, for the summary.
        counts: Of images.
        ranking: What is known of the ranking.
    """

    config: str
    settings: Content
    counts: dict[str, Count]
    ranking: Content | None = None


class ExampleLine(msgspec.Struct, tag_field="kind", tag="example", omit_defaults=True):
    """One example's training; the last one of a path stands.

    Args:
        path: Its name.
        rank: Its universal difficulty.
        outcome: How it ended. An `error` has its reason and nothing of what follows.
        label: Class index.
        steps: Taken.
        predicted_before: The class that the pretrained model predicts.
        steps_to_correct: See `Trajectory`.
        weight_distance: See `Trajectory`.
        seconds: Wall time.
        environment: The number of the one that it was trained in.
        reason: Why it is an error.
        losses: Base64 of a little-endian float32 a step.
    """

    path: str
    rank: Annotated[int, msgspec.Meta(ge=-(10**MAX_DIGITS), le=10**MAX_DIGITS)] | float
    outcome: Outcome
    label: Count | None = None
    steps: Count = 0
    predicted_before: Count | None = None
    steps_to_correct: StepCount | None = None
    weight_distance: Number | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    environment: Count = 0
    reason: str = ""
    losses: str = ""


NO_TARGET, NO_COMMAND = Target(0, ()), CommandLine("", {}, {})
Line = StudyLine | EnvironmentLine | Target | CommandLine | ExampleLine

LINE_LESS = " (without that line, its example is trained again)"
BEGIN = b'{"kind":"study",'
EXAMPLE = b'{"kind":"example",'
"""How our lines of examples begin: there are many, and they are plain enough for the fast reader."""
_example = msgspec.json.Decoder(ExampleLine)


def line_bytes(line: Line) -> bytes:
    """A line as it stands in the file."""
    if isinstance(line, ExampleLine):
        return msgspec.json.encode(line) + b"\n"
    content = {"kind": line.__struct_config__.tag, **msgspec.structs.asdict(line)}
    return (json.dumps(content, default=_plain, ensure_ascii=False, separators=(",", ":")) + "\n").encode()


def _plain(value: object) -> object:
    return msgspec.structs.asdict(value) if isinstance(value, msgspec.Struct) else str(value)


def parse_line(text: bytes) -> Line:
    """Reads a line.

    Raises:
        OutsideError: If it is none.
    """
    if not text.startswith(EXAMPLE):
        line: Line = json_as(Line, text)  # type: ignore[arg-type]
        return line
    try:
        return _example.decode(text)
    except msgspec.ValidationError as error:
        raise OutsideError(f"it has another form: {error}") from None
    except (ValueError, RecursionError) as error:
        raise OutsideError(f"it is not JSON: {error}") from None


def example_line(result: Result, environment: int) -> ExampleLine:
    """The line of a finished example.

    Args:
        result: The example.
        environment: The number of the one that it was trained in.
    """
    example = result.example
    if isinstance(result, Failure):
        return ExampleLine(example.path, example.rank, result.outcome, example.label, reason=result.reason)
    distance = float(result.weight_distance)
    return ExampleLine(
        path=example.path,
        rank=example.rank,
        outcome=result.outcome,
        label=example.label,
        steps=len(result.losses),
        predicted_before=result.predicted_before,
        steps_to_correct=result.steps_to_correct,
        weight_distance=distance if math.isfinite(distance) else repr(distance),  # type: ignore[arg-type]
        seconds=result.seconds,
        environment=environment,
        losses=base64.b64encode(struct.pack(f"<{len(result.losses)}f", *result.losses)).decode(),
    )


@dataclass(slots=True)
class Stored:
    """An example's line that stands.

    Args:
        line: Without its losses, which are read when they are asked for.
        final_loss: The last of them; NaN without any.
        number: Of the line, from 1.
        start: Where it begins in the file, in bytes.
        size: With its end, in bytes.
    """

    line: ExampleLine
    final_loss: float
    number: int
    start: int
    size: int


@dataclass
class StoredStudy:
    """A study, as far as its log is written.

    Args:
        file: The log.
        identity: All that a number depends on.
        environments: Where examples were trained, by number.
        target: What it is to become.
        sampled: Paths of its sample.
        command: What was asked for last.
        examples: The lines that stand, by path, in their order.
        trained_for: The most steps that any example was allowed.
        lines: How many there are.
        size: Their bytes.
        torn: Bytes of a last line that was cut short.
    """

    file: Path
    identity: Content = field(default_factory=dict)
    environments: dict[int, Content] = field(default_factory=dict)
    target: Target = NO_TARGET
    sampled: frozenset[str] = frozenset()
    command: CommandLine = NO_COMMAND
    examples: dict[str, Stored] = field(default_factory=dict)
    trained_for: int = 0
    lines: int = 0
    size: int = 0
    torn: int = 0

    @property
    def epsilon(self) -> float:
        """The loss to reach."""
        return float(self.identity["epsilon"])

    @property
    def has_begun(self) -> bool:
        """Whether it says what it is to become: a kill may have left less."""
        return bool(self.target.examples)

    @property
    def sample(self) -> list[ExampleLine]:
        """The lines of examples that are in the sample."""
        return [stored.line for path, stored in self.examples.items() if path in self.sampled]

    @property
    def left(self) -> int:
        """How many examples of the sample are still to be trained."""
        limit = self.target.max_steps_per_example
        return len(self.sampled) - sum(not gave_up_earlier(line, limit) for line in self.sample)

    @property
    def environments_in_use(self) -> list[Content]:
        """Where the examples that stand were trained; without any, where the next ones will be."""
        used = {stored.line.environment for stored in self.examples.values()}
        there = [environment for number, environment in self.environments.items() if number in used]
        return there or list(self.environments.values())[-1:]

    def places(self) -> dict[str, int]:
        """The `example_index` of every example, sampled or there already."""
        ranks: dict[str, Rank] = {path: stored.line.rank for path, stored in self.examples.items()}
        ranks.update((path, rank) for rank, path in self.target.examples)
        return places_by_difficulty(ranks)

    def take(self, line: Line, size: int) -> None:
        """Takes the next line.

        Args:
            line: Of which the losses are let go.
            size: With its end, in bytes.

        Raises:
            OutsideError: If it can't stand there.
        """
        if isinstance(line, StudyLine) != (self.lines == 0):
            raise OutsideError("the first line, and no other, must say what the study is")
        if isinstance(line, StudyLine):
            epsilon = line.identity.get("epsilon")
            if not isinstance(epsilon, int | float) or isinstance(epsilon, bool) or not 0 < epsilon < math.inf:
                raise OutsideError(f"its epsilon is {str(epsilon)[:60]!r}, no loss to reach")
            self.identity = line.identity
        elif isinstance(line, EnvironmentLine):
            if line.number != len(self.environments) + 1:
                raise OutsideError(f"it is of environment {line.number}, and {len(self.environments) + 1} comes next")
            self.environments[line.number] = line.environment
        elif isinstance(line, Target):
            sampled = frozenset(path for _, path in line.examples)
            if not sampled or len(sampled) < len(line.examples) or not line.max_steps_per_example:
                raise OutsideError("its sample is empty or names an example twice, or has no steps")
            self.target, self.sampled = line, sampled
        elif isinstance(line, CommandLine):
            self.command = line
        else:
            self._take_example(line, size)
        self.lines += 1
        self.size += size

    def _take_example(self, line: ExampleLine, size: int) -> None:
        if not (self.has_begun and self.environments):
            raise OutsideError("it is of an example, before lines say what the sample is and where it is trained")
        if line.outcome != "error":
            if line.environment not in self.environments:
                raise OutsideError(f"it names environment {line.environment}, which no line before it describes")
            if None in (line.label, line.predicted_before, line.steps_to_correct, line.weight_distance, line.seconds):
                raise OutsideError("it is of a trained example, and a number is missing")
            self.trained_for = max(self.trained_for, self.target.max_steps_per_example, line.steps)
        if len(line.losses) != 4 * -(-4 * line.steps // 3) or (line.steps == 0) != (line.outcome == "error"):
            raise OutsideError(
                f"its losses are {len(line.losses)} characters, which are not those of {line.steps} steps"
            )
        try:
            end = binascii.a2b_base64(line.losses[-8:], strict_mode=True)[-4:]
            final_loss = struct.unpack("<f", end)[0] if line.steps else math.nan
        except (ValueError, struct.error) as error:
            raise OutsideError(f"its losses are not base64: {error}") from None
        line.losses = ""
        self.examples.pop(line.path, None)
        self.examples[line.path] = Stored(line, final_loss, self.lines + 1, self.size, size)

    def lines_of(self, paths: Iterable[str]) -> Iterator[ExampleLine]:
        """The lines of examples, with their losses.

        Raises:
            OSError: If the log can't be read.
            OutsideError: If it isn't what it was.
            KeyError: If there is no such example.
        """
        with open_regular(self.file, links=False) as (descriptor, _):
            for path in paths:
                stored = self.examples[path]
                line = parse_line(os.pread(descriptor, stored.size, stored.start))
                if not isinstance(line, ExampleLine) or line.path != path:
                    raise OutsideError(f"{self.file.name} was replaced while it was read")
                yield line

    def with_losses(self, paths: Iterable[str]) -> Iterator[tuple[ExampleLine, "Floats | None"]]:
        """The lines of examples, and their losses, shape (steps,), as they were: float32, widened; an `error` has none.

        Raises:
            OSError: If the log can't be read.
            OutsideError: If it isn't what it was, or losses are not those of their outcome.
            KeyError: If there is no such example.
        """
        for line in self.lines_of(paths):
            try:
                losses = losses_in(line, self.epsilon) if line.steps else None
            except OutsideError as error:
                number = self.examples[line.path].number
                raise OutsideError(f"{self.file.name}, line {number}: {error}{LINE_LESS}") from None
            yield line, losses

    def losses_of(self, path: str) -> "Floats":
        """The losses of an example that was trained; see `with_losses`."""
        ((_, losses),) = self.with_losses([path])
        assert losses is not None
        return losses


def losses_in(line: ExampleLine, epsilon: float) -> "Floats":
    """The losses in an example's line.

    Raises:
        OutsideError: If they are not those of its steps and outcome.
    """
    import numpy as np  # here and not above: status does without

    try:
        losses = np.frombuffer(binascii.a2b_base64(line.losses, strict_mode=True), "<f4").astype(np.float64)
    except ValueError as error:
        raise OutsideError(f"its losses are not base64: {error}") from None
    if len(losses) != line.steps or not line.steps:
        raise OutsideError(f"its losses are {len(losses)}, and its steps {line.steps}")
    last = float(losses[-1])
    goes_on = np.isfinite(losses[:-1]).all() and not (losses[:-1] <= epsilon).any()
    outcome = "diverged" if not math.isfinite(last) else "reached" if last <= epsilon else "censored"
    if not goes_on or outcome != line.outcome:
        raise OutsideError(f"its outcome is {line.outcome!r}, and its losses say otherwise")
    return losses


def places_by_difficulty(ranks: Mapping[str, Rank]) -> dict[str, int]:
    """The `example_index` of every path: its place by rank (ties by path)."""
    return {path: place for place, path in enumerate(sorted(ranks, key=lambda path: (ranks[path], path)))}


def gave_up_earlier(line: ExampleLine, max_steps: int) -> bool:
    """Whether an example was censored at fewer steps than are allowed now."""
    return line.outcome == "censored" and line.steps < max_steps


def read_study(folder: Path) -> StoredStudy | None:
    """Reads a study, also while a run writes to it.

    Returns:
        None where there is none, or one that was killed before it said what it is to become.

    Raises:
        OSError: If the log can't be read.
        OutsideError: If it is not as it was written, naming the line.
    """
    file = folder / STORE
    if not os.path.lexists(file):
        return None
    study = StoredStudy(file)
    for text in whole_lines(file):
        try:
            if study.lines == 0:
                _require_format(text)
            study.take(parse_line(text), len(text))
        except OutsideError as error:
            hint = LINE_LESS if study.has_begun else ""
            raise OutsideError(f"{STORE}, line {study.lines + 1}: {error}{hint}") from None
    study.torn = max(0, file.lstat().st_size - study.size)
    if study.lines == 0 and not _may_be_ours(file):
        raise OutsideError(f"{STORE}, line 1: it is of something else")
    return study if study.has_begun else None


def _may_be_ours(file: Path) -> bool:
    """Whether a first line that was cut short is one of ours."""
    with open_regular(file, links=False) as (descriptor, _):
        begin = os.pread(descriptor, len(BEGIN), 0)
    return BEGIN.startswith(begin.rstrip(b"\0"))


class _Format(msgspec.Struct):
    format: int


def _require_format(text: bytes) -> None:
    found = json_as(_Format, text).format
    if found != FORMAT:
        newer = ": it is of a newer steps-to-epsilon" if found > FORMAT else ""
        raise OutsideError(f"it has format {found}, this version reads {FORMAT}{newer}")
