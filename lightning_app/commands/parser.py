"""What all commands share of parsing: the parser of those that need no torch, and errors in the same words for all."""

import json
import math
import types
from argparse import ArgumentError, HelpFormatter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser, Namespace

from lightning_app.errors import BadInputError, did_you_mean

DESCRIPTIONS = {float: "a finite number", int: "a whole number", bool: "true or false", str: "text", Path: "a path"}
SWITCH = ("true", "false", "yes", "no")


class Parser(ArgumentParser):
    """The parser of a command that needs no torch; it answers within a fraction of a second.

    Args:
        command: Its name.
        description: What it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"steps-to-epsilon {command}",
            description=description,
            formatter_class=HelpFormatter,  # jsonargparse's own adds types and defaults that the help says already
            allow_abbrev=False,
            exit_on_error=False,
        )

    def parse(self, argv: Sequence[str]) -> Namespace:
        """Parses a command line.

        Raises:
            BadInputError: If it isn't one of this command's.
        """
        try:
            return self.parse_args(list(argv))
        except (ArgumentError, TypeError, ValueError) as error:
            raise BadInputError(why_not(error, self, flags_of(argv), {}, "--")) from error


def flags_of(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """The flags of a command line, without their dashes, each with its value; None where nothing follows."""
    for word, following in zip(argv, [*argv, None][1:], strict=True):
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and len(flag) > 2:
            yield flag[2:].removesuffix("+"), value if equals else following


def why_not(
    error: Exception,
    parser: ArgumentParser,
    given: Iterable[tuple[str, object]],
    hints: Mapping[str, object],
    dashes: str = "",
) -> str:
    """Says in one line why options can't be parsed: which it is, what was found, what would be right.

    It is told from the options that were given and their types. jsonargparse's own words, which list all that a union
    of types could have been, stand only where that doesn't tell.

    Args:
        error: What jsonargparse raised.
        parser: That raised it.
        given: Options, with their values.
        hints: The type of each option, by name.
        dashes: Before an option's name.
    """
    given, known = list(given), [*parser.get_defaults().keys(), "help", "config", "print_config"]
    for key, _ in given:
        if not any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in known):
            return f"{dashes}{key} is no option of {parser.prog.split()[-1]}{did_you_mean(key, known)}"
    for key, value in given:
        kinds = _kinds(hints[key]) if key in hints and value is not None else []
        if kinds and not any(_is_class(kind) or fits(value, kind) for kind in kinds):
            return f"{dashes}{key}: got {value}, expected {_describe(hints[key])}"
    for name in dict.fromkeys(name for key, _ in given for name in hints if key == name or key.startswith(f"{name}.")):
        words = [(key, value) for key, value in given if key == name or key.startswith(f"{name}.")]
        if (said := _class_says(name, words, hints[name])) is not None:
            return f"{dashes}{words[0][0]}: {words[0][1]} is refused: {said}; expected {_describe(hints[name])}"
    for key, value in given:
        if key not in known and value is not None:  # a group of options
            return f"{dashes}{key}: {value} is refused: {innermost(error)}"
    return f"{innermost(error)}; {parser.prog} --help shows what it takes"


def _class_says(name: str, given: Iterable[tuple[str, object]], hint: object) -> str | None:
    """What the class, or the list of them, that an option asks for says of its values; None if nothing."""
    given = list(given)
    is_list = isinstance(given[0][1], list)
    kinds = [kind for kind in _kinds(hint) if _is_class(kind) and (get_origin(kind) is not None) == is_list]
    if not kinds or any(len(given) == 1 and fits(given[0][1], kind) for kind in _kinds(hint)):
        return None
    alone = ArgumentParser(exit_on_error=False)
    alone.add_argument("--value", type=kinds[0])
    try:
        alone.parse_args([f"--value{key[len(name) :]}={json.dumps(x) if is_list else x}" for key, x in given])
    except (ArgumentError, TypeError, ValueError) as error:
        return innermost(error)
    return None


def innermost(error: BaseException, wanted: type[BaseException] | None = ValueError) -> str:
    """What a type has said of its value, in one line: jsonargparse wraps it into errors of its own.

    Args:
        error: The outermost.
        wanted: The first of this type is it; None for the one that began it all.
    """
    while error.__cause__ is not None and type(error) is not wanted:
        error = error.__cause__
    return " ".join(str(error).split())


def fits(value: object, kind: object) -> bool:
    """Whether a value, as typed or from YAML, may be of a simple type."""
    text = str(value).strip()
    if kind is bool:
        return text.lower() in SWITCH
    if get_origin(kind) is Literal:
        return text in map(str, get_args(kind))
    if kind is type(None):
        return value is None or text == "null"
    if kind in (int, float):
        try:
            number = int(text) if kind is int else float(text)
        except ValueError:
            return False
        return math.isfinite(number)
    return isinstance(value, str) and kind in (str, Path)


def _kinds(hint: object) -> list[object]:
    """The types that a hint allows."""
    is_union = get_origin(hint) in (Union, types.UnionType)
    return [kind for part in get_args(hint) for kind in _kinds(part)] if is_union else [hint]


def _is_class(kind: object) -> bool:
    return get_origin(kind) is not Literal and kind not in (*DESCRIPTIONS, type(None))


def _describe(hint: object) -> str:
    """What a hint allows, such as `a whole number, or one of 'a', 'b'`."""
    kinds = [kind for kind in _kinds(hint) if kind is not type(None)]
    choices = dict.fromkeys(repr(choice) for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))
    words: list[Any] = [
        DESCRIPTIONS.get(kind) or (f"a {kind.__name__}" if get_origin(kind) is None else "a list")  # type: ignore[call-overload, attr-defined]
        for kind in kinds
        if get_origin(kind) is not Literal
    ]
    return ", or ".join(dict.fromkeys([*words, *([f"one of {', '.join(choices)}"] if choices else [])]))
