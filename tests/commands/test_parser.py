"""Errors of options: which it is, what was found, what would be right."""

from pathlib import Path

import pytest

from lightning_app.commands.parser import Parser, fits, flags_of
from lightning_app.commands.run import Run
from lightning_app.errors import BadInputError

YAML = {
    "list.yaml": "[1, 2]\n",
    "exponent.yaml": "max_examples: 1e3\n",
    "patience.yaml": "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: a, patience: b}}]}\n",
}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max_examples", "1e3"], "--max_examples: got 1e3, expected a whole number"),
        (["--max_examples", "100.0"], "--max_examples: got 100.0, expected a whole number"),
        (["--seed="], "--seed: got , expected a whole number"),
        (["--max_hours=", "--seed", "1"], "--max_hours: got , expected a finite number"),
        (["--max_examples"], "argument --max_examples: expected one argument; steps-to-epsilon run --help"),
        (["--", "x"], "unrecognized arguments: -- x"),
        (["--config", "exponent.yaml"], "--config exponent.yaml: max_examples: got 1e3, expected a whole number"),
        (["--config", "list.yaml"], "--config list.yaml: Unexpected config: [1, 2]"),
        (["--config", "patience.yaml"], "Parser key \"patience\": Expected a <class 'int'>. Got value: b"),
        (["--trainer", "no.yaml"], "--trainer: no.yaml is refused: "),
        (["--trainer.callbacks", "Nope"], "--trainer.callbacks: Nope is refused: "),
        (
            ["--trainer.callbacks", "EarlyStopping"],
            "the following arguments are required: monitor; expected a list",
        ),
        (["--trainer.gradient_clip_val", "a"], "--trainer.gradient_clip_val: got a, expected a whole number, or a fin"),
    ],
)
def test_the_option_is_named_and_what_would_be_right(argv: list[str], message: str) -> None:
    for name, text in YAML.items():
        Path(name).write_text(text)
    with pytest.raises(BadInputError) as error:
        Run(argv)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_commands_without_torch_say_it_likewise() -> None:
    parser = Parser("some", "Does something.")
    parser.add_argument("--number", type=int)
    with pytest.raises(BadInputError, match="--nummer is no option of some; near names: number"):
        parser.parse(["--nummer", "1"])
    with pytest.raises(BadInputError, match=r"unrecognized arguments: more; steps-to-epsilon some --help shows"):
        parser.parse(["more"])
    assert parser.parse(["--number", "3"]).number == 3
    assert "default: null" not in parser.format_help()


def test_flags_and_their_values() -> None:
    words = ["--a", "1", "--b=", "x", "--", "--c+=y", "--d"]
    assert list(flags_of(words)) == [("a", "1"), ("b", ""), ("c", "y"), ("d", None)]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [("1", int, True), ("1.5", int, False), ("1e3", int, False), ("1e3", float, True), ("nan", float, False),
     ("", float, False), ("yes", bool, True), ("maybe", bool, False), (None, type(None), True), ("x", str, True)],
)  # fmt: skip
def test_what_fits(value: object, kind: object, expected: bool) -> None:
    assert fits(value, kind) is expected
