"""Configs and flags: nothing that was asked for is lost."""

from pathlib import Path

import pytest
import yaml

from lightning_app.cli import main
from lightning_app.commands.base import configs_first
from lightning_app.commands.run import Run
from lightning_app.settings import CONFIGS, StudySettings

SHIPPED = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
REPOSITORY = Path(__file__).parents[2]


def settings_of(*argv: str) -> StudySettings:
    return Run(argv).settings


def test_the_configs_folder_is_the_packages() -> None:
    assert (REPOSITORY / "configs").resolve() == CONFIGS.resolve()
    assert {"default", "quickstart", "imagenet", "cpu"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_is_parsed_and_none_of_it_lost(name: str) -> None:
    written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    run = Run(["--config", name])
    for key, value in written.items():
        if key == "trainer":
            assert {k: run.config["trainer"][k] for k in value} == value
        else:
            assert getattr(run.settings, key) == (
                Path(value) if isinstance(getattr(run.settings, key), Path) else value
            )


def test_the_default_config_is_the_defaults() -> None:
    assert settings_of("--config", "default") == StudySettings() == settings_of()


def test_the_quick_start_is_the_seeds() -> None:
    settings = settings_of("--config", "quickstart")
    assert (settings.model_name, settings.max_examples) == ("resnet34.a3_in1k", 50)
    assert (settings.max_steps_per_example, settings.lr, settings.epsilon) == (500, 0.01, 1e-6)


def test_the_seeds_custom_command_line() -> None:
    line = "--model_name resnet18.a1_in1k --max_examples 100 --max_steps_per_example 1000 --epsilon 1e-5"
    settings = settings_of(*line.split())
    assert (settings.model_name, settings.max_examples) == ("resnet18.a1_in1k", 100)
    assert (settings.max_steps_per_example, settings.epsilon, settings.lr) == (1000, 1e-5, 5e-6)


def test_a_yaml_value_beats_the_default_and_the_flag_beats_the_yaml_wherever_it_stands() -> None:
    Path("a.yaml").write_text("epsilon: 0.5\nlr: 0.25\nmomentum: 0.9\ntrainer:\n  precision: 64-true\n")
    Path("b.yaml").write_text("lr: 0.125\n")
    for argv in (
        ["--config", "a.yaml", "--config", "b.yaml", "--momentum", "0.5"],
        ["--momentum", "0.5", "--config=a.yaml", "-c", "b.yaml"],
    ):
        run = Run(argv)
        assert (run.settings.epsilon, run.settings.lr, run.settings.momentum) == (0.5, 0.125, 0.5)
        assert run.config["trainer"]["precision"] == "64-true"
        assert run.config["trainer"]["devices"] == 1  # our default survives a YAML with other keys of its group


def test_configs_move_to_the_front_in_their_order() -> None:
    assert configs_first(["--a", "1", "-c", "x", "--b", "--config=y"]) == ["-c", "x", "--config=y", "--a", "1", "--b"]
    assert configs_first(["--a", "--config"]) == ["--config", "--a"]


@pytest.mark.parametrize("argv", [["--overwrite"], ["--overwrite", "true"], ["--overwrite=true"]])
def test_a_switch_may_stand_alone(argv: list[str]) -> None:
    assert settings_of(*argv, "--seed", "1").overwrite is True
    assert settings_of("--overwrite", "false").overwrite is False


def test_print_config_is_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["run", "--config", "cpu", "--lr", "0.5", "--print_config"])
    assert not done.value.code
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["lr"], printed["max_examples"], printed["trainer"]["accelerator"]) == (0.5, 20, "cpu")
    Path("again.yaml").write_text(yaml.safe_dump(printed))
    assert settings_of("--config", "again.yaml") == settings_of("--config", "cpu", "--lr", "0.5")


@pytest.mark.parametrize("command", ["run", "fit", "validate"])
def test_help_reads_like_documentation(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert not done.value.code
    printed = " ".join(capsys.readouterr().out.split())
    assert "Anything that timm.create_model takes" in printed
    assert "bare name of one that comes with the package" in printed
    if command == "run":
        assert "at or below it. (type: float, default: 1e-06)" in printed
        assert "--trainer.max_steps" not in printed  # what run decides itself is not offered


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--config", "quikstart"], "--config: there is no file quikstart"),
        (["--config", "quikstart"], "configs by bare name: cpu, default, digits, imagenet, quickstart"),
        (["--config"], "expected one argument"),
        (["--epsilon", "tiny"], "--epsilon: got tiny, expected a finite number"),
        (["--lr", "inf"], "--lr: got inf, expected a finite number"),
        (["--max_hours", "long"], "--max_hours: got long, expected a finite number\n"),
        (["--dry_run=maybe"], "--dry_run: got maybe, expected true or false"),
        (["--engine", "odd"], "--engine: got odd, expected one of 'auto', 'trainer', 'slots'"),
        (["--select", "odd"], "--select: got odd, expected one of 'wrong', 'correct', 'all'"),
        (["--max_steps_per_example", "1.5"], "--max_steps_per_example: got 1.5, expected a whole number"),
        (["--epsilom", "1"], "--epsilom"),
        (["--eps", "1"], "--eps"),
        (["--trainer.max_steps", "4"], "--trainer.max_steps"),
        (
            ["--config", "unknown_key.yaml", "--config", "default"],  # the file that has it, and no other
            "--config unknown_key.yaml: epsilom is no option of run; near names: epsilon",
        ),
        (
            ["--config", "default", "--config", "unknown_flag.yaml"],
            "error: --config unknown_flag.yaml: trainer.divices is no option of run; near names: trainer.devices",
        ),
        (["--trainer", "flags.yaml"], "error: --trainer.divices is no option of run; near names: trainer.devices"),
        (["--config", "bad_value.yaml"], "--config bad_value.yaml: lr: got fast, expected a finite number"),
        (["--config", "broken.yaml"], "broken.yaml"),
    ],
)
def test_a_bad_command_line_is_one_line(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("unknown_key.yaml").write_text("epsilom: 1\n")
    Path("unknown_flag.yaml").write_text("trainer:\n  divices: 1\n")
    Path("flags.yaml").write_text("divices: 1\n")
    Path("bad_value.yaml").write_text("lr: fast\n")
    Path("broken.yaml").write_text("a: [\n")
    assert main(["run", *argv]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("steps-to-epsilon run: error: ")
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", "[1, 2]", "a: [", "\0", "trainer: 3", "a: &a [*a]", "trainer: {devices: {}}", "root_dir: 3"),
        *(
            "max_examples: 1e999",
            "epsilon: .inf",
            "lr: null",
            "max_examples: null",
            "select: null",
            "? [a]: b",
            "- - -",
        ),
        "!!python/object/apply:os.mkdir [sprung]",
        "trainer: {logger: {class_path: os.mkdir, init_args: {path: sprung}}}",
    ],
)
def test_any_yaml_is_one_clear_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.yaml").write_text(text)
    assert main(["run", "--config", "odd.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("steps-to-epsilon run: error: --")
    assert not Path("sprung").exists()
