"""Lists of models: as they are typed, as they are published, and what a pool calls one of them."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lightning_app.data.ranking import read_names, read_text, split_lines
from lightning_app.errors import BadInputError, did_you_mean
from lightning_app.files import OutsideError, yaml_as

YAML_SUFFIXES = (".yaml", ".yml")


LOCAL = "local-dir:"


def local_folder(model_name: str) -> Path | None:
    """The folder of a `local-dir:FOLDER` model, `~` written out; None for a model of any other source."""
    return Path(model_name.removeprefix(LOCAL)).expanduser() if model_name.startswith(LOCAL) else None


def name_in_pool(model_name: str) -> str:
    """What a pool calls a model: timm's name as it is, for `local-dir:FOLDER` the resolved folder's own name."""
    folder = local_folder(model_name)
    # Path.resolve refuses links in a circle.
    return model_name if folder is None else Path(os.path.realpath(folder)).name


def row_of_model(name: str, names: Sequence[str], flag: str, source: object) -> int:
    """The place of a model in a list, by its name as it is or as a pool calls it.

    Raises:
        BadInputError: If it isn't there, naming the flag and the source of the list.
    """
    known = name if name in names else name_in_pool(name)
    if known not in names:
        raise BadInputError(f"--{flag}: {known!r} is not in {source} ({len(names)} models){did_you_mean(known, names)}")
    return names.index(known)


def split_models(models: str | Sequence[str], flag: str = "models") -> list[str]:
    """The models that an option names.

    Args:
        models: Names with commas between them, or a list of them; or the name of a file: a YAML list, or text with a
            name a line (commas are fine too, and what follows a # is left out).
        flag: The option, for messages.

    Raises:
        BadInputError: If nothing is named, one is named twice, or the file can't be read.
    """
    words = models.split(",") if isinstance(models, str) else list(models)
    if len(words) == 1 and _is_file(words[0]):
        words = _from_file(Path(words[0]), flag)
    elif len(words) == 1 and Path(words[0]).suffix.lower() in (*YAML_SUFFIXES, ".txt", ".csv"):
        raise BadInputError(f"--{flag}: there is no {words[0]} ({Path(words[0]).absolute()})")
    names = [name for word in words if (name := word.strip())]
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise BadInputError(f"--{flag}: {odd!r} can't be a model's name")
    if not names:
        raise BadInputError(f"--{flag} names no model: expected A,B,… or a file with a name a line, got {models!r}")
    for name, count in Counter(names).items():
        if count > 1:
            raise BadInputError(f"--{flag} names {name} {count} times")
    return names


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero in it
        return False


def _from_file(file: Path, flag: str) -> list[str]:
    text = read_text(file, flag)
    if file.suffix.lower() not in YAML_SUFFIXES:
        return [word for line in split_lines(text) for word in line.partition("#")[0].split(",")]
    try:
        content = yaml_as(object, text)
    except OutsideError as error:
        raise BadInputError(f"--{flag} {file} can't be read: {error}") from None
    if isinstance(content, dict) and list(content) == ["models"]:
        content = content["models"]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise BadInputError(f"--{flag} {file} must be a YAML list of model names")
    return content


def read_published_names(file: Path, flag: str) -> list[str]:
    """Reads a published list: one line of names, best first; or a name a line.

    Raises:
        BadInputError: If it can't be read.
    """
    try:
        return read_names(read_text(file, flag))
    except csv.Error as error:
        raise BadInputError(f"--{flag} {file} can't be read as CSV: {error}") from None
