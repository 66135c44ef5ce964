"""What a study's numbers depend on (its identity) and where they were made (its environment): `run.json`."""

import hashlib
import json
import platform
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import msgspec

from lightning_app import __version__
from lightning_app.errors import BadInputError
from lightning_app.outside import json_as

FORMAT = 2
Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Identity = dict[str, object]
PACKAGES = ("torch", "torchvision", "timm", "lightning", "pillow", "numpy")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that a number depends on."""
    ours = {"python": platform.python_version(), "steps-to-epsilon": __version__}
    return ours | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed under another name, as pillow-simd is, or only put on the path
        module = "PIL" if package == "pillow" else package
    try:
        return str(import_module(module).__version__)
    except (ImportError, AttributeError):
        return "unknown"


def environment(device_name: str, threads: int, instructions: str | None = None) -> dict[str, object]:
    """Versions, the model of CPU or GPU, the number of CPU threads, and the CPU's instructions where it trains."""
    return {
        **versions(),
        "device": _cpu_model() if device_name == "cpu" else device_name,
        "cpu_threads": threads,
        "machine": platform.machine(),
        **({} if instructions is None else {"cpu_instructions": instructions}),
    }


def file_sha256(file: Path) -> str:
    """A file's digest."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Stretch:
    """Rows that were made in one environment.

    Args:
        environment: Of these rows.
        paths: Their examples; None for the last stretch, which has all that no other has.
    """

    environment: dict[str, object]
    paths: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Shard:
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


@dataclass(frozen=True)
class Goal:
    """What the last command asked for.

    Args:
        examples: In its sample.
        max_steps_per_example: Its limit.
        beyond: Paths of rows that were there and are not in the sample.
        shard: Which part of a sample this is; None for a whole one.
    """

    examples: Count
    max_steps_per_example: Count
    beyond: tuple[str, ...] = ()
    shard: Shard | None = None


@dataclass(frozen=True)
class Fingerprint:
    """The content of `run.json`.

    Args:
        identity: All that a number depends on.
        stretches: Where the rows were made.
        goal: What the study is to become; in neither, since it may grow.
        trained_for: The most steps that any example was allowed.
    """

    identity: Identity
    stretches: tuple[Stretch, ...]
    goal: Goal
    trained_for: Count = 0

    def text(self) -> str:
        """As it stands in the file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=2, default=str, ensure_ascii=False) + "\n"

    def went_on(self, environment: dict[str, object], kept: Collection[str]) -> tuple[Stretch, ...]:
        """The stretches of a study that goes on.

        Args:
            environment: Of the rows to come.
            kept: Paths of the rows that stay.
        """
        there = set(kept)
        listed = {path for stretch in self.stretches for path in stretch.paths or ()}
        closed = [
            replace(stretch, paths=tuple(sorted(there - listed if stretch.paths is None else there & {*stretch.paths})))
            for stretch in self.stretches
        ]
        same = [stretch for stretch in closed if not differences(stretch.environment, environment)]
        others = [stretch for stretch in closed if stretch not in same and stretch.paths]
        return (*others, Stretch(environment))

    def with_rows_of(self, made: Iterable[tuple[dict[str, object], str]]) -> "Fingerprint":
        """The fingerprint with rows that were made in other environments than the last stretch's.

        Args:
            made: Environments and paths.
        """
        places: dict[str, tuple[dict[str, object], set[str]]] = {}
        for environment, path in made:
            places.setdefault(json.dumps(environment, sort_keys=True), (environment, set()))[1].add(path)
        *closed, last = self.stretches
        for environment, paths in places.values():
            if not differences(environment, last.environment):
                continue
            same = [stretch for stretch in closed if not differences(stretch.environment, environment)]
            there = {path for stretch in same for path in stretch.paths or ()}
            closed = [stretch for stretch in closed if stretch not in same]
            closed.append(Stretch(environment, tuple(sorted(there | paths))))
        return replace(self, stretches=(*closed, last))

    def without(self, path: str) -> "Fingerprint":
        """The fingerprint once an example of an earlier stretch is trained again."""
        stretches = [
            stretch if stretch.paths is None else replace(stretch, paths=tuple(p for p in stretch.paths if p != path))
            for stretch in self.stretches
        ]
        return replace(self, stretches=tuple(stretch for stretch in stretches if stretch.paths != ()))


@dataclass(frozen=True)
class _Format:
    format: int


def read_fingerprint(text: str | bytes) -> Fingerprint:
    """Reads `run.json`.

    Raises:
        ValueError: If it isn't one of this version.
    """
    if (found := json_as(_Format, text).format) != FORMAT:
        raise ValueError(f"it has format {found}, this version writes {FORMAT}")
    fingerprint = json_as(Fingerprint, text)
    stretches = fingerprint.stretches
    if [stretch.paths is None for stretch in stretches] != [False] * (len(stretches) - 1) + [True]:
        raise ValueError("its last stretch, and no other, must have paths null")
    return fingerprint


def require_same(found: Fingerprint, identity: dict[str, object], environment: dict[str, object], mixed: bool) -> None:
    """Refuses to go on with a study whose numbers would be others.

    Args:
        found: Of the study that is there.
        identity: What the command asks for.
        environment: Where it runs.
        mixed: Whether another environment is allowed.

    Raises:
        BadInputError: With every key that differs, old and new.
    """
    if differing := differences(found.identity, identity):
        raise BadInputError(
            f"it has another identity: {told(differing)}. --output_dir puts this study elsewhere, --overwrite moves"
            f" that one aside{_way_to_another_epsilon(differing)}"
        )
    others = [differences(stretch.environment, environment) for stretch in found.stretches]
    if not mixed and any(others):
        differing = next(filter(None, others))
        raise BadInputError(
            f"its rows were made in another environment: {told(differing)}. The last bits of new rows may differ:"
            " --allow_mixed_environment goes on all the same, --output_dir puts this study elsewhere"
        )


Difference = tuple[str, object, object]


def _way_to_another_epsilon(differing: list[Difference]) -> str:
    old, new = next(((old, new) for key, old, new in differing if key == "epsilon"), (None, None))
    if len(differing) > 1 or not (isinstance(old, float) and isinstance(new, float)):
        return ""
    if new < old:
        return f". The examples there stopped at {old:g}, so that a smaller epsilon has to be trained anew"
    return (
        f". No training is needed for it: the first step with a loss of {new:g} or less is in the step logs there"
        f" (steps-to-epsilon report FOLDER --epsilon {new:g} reads it from them)"
    )


def told(differing: list[Difference], where: object = None, and_where: object = None) -> str:
    """Differences in words: what was and what is, or what is here and there."""
    if where is not None:
        return "; ".join(f"{key} is {_short(a)} in {where}, {_short(b)} in {and_where}" for key, a, b in differing)
    return "; ".join(f"{key} was {_short(old)}, is {_short(new)}" for key, old, new in differing)


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 100 else text[:97] + "..."


def differences(old: object, new: object) -> list[Difference]:
    """Every key of two JSON objects whose value differs; a key inside a key is joined to it by a dot."""
    mine, theirs = (dict(_flat(json.loads(json.dumps(value, default=str)), "")) for value in (old, new))
    absent = "(absent)"
    keys = dict.fromkeys((*mine, *theirs))
    pairs = [(key, mine.get(key, absent), theirs.get(key, absent)) for key in keys]
    return [pair for pair in pairs if json.dumps(pair[1]) != json.dumps(pair[2])]  # as text: NaN equals itself


def _flat(value: object, key: str) -> Iterator[tuple[str, object]]:
    if not (isinstance(value, dict) and (value or not key)):
        yield key, value
        return
    for name, inner in value.items():
        yield from _flat(inner, f"{key}.{name}" if key else name)


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
