import json
import signal
import time
from pathlib import Path

import pytest

from lightning_app.cli import main
from tests import oracle
from tests.torture import started


@pytest.fixture
def fit(tiny_model: str) -> list[str]:
    fit = ["fit", "--model_name", tiny_model, "--trainer.accelerator", "cpu"]
    return [*fit, "--lr", "0.05", "--epsilon", "0.1", "--max_steps_per_example", "40"]


@pytest.mark.parametrize("how", ["folder", "label", "class_to_idx"])
def test_one_example_is_the_oracles(
    fit: list[str], tiny_model: str, photographs: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    image = photographs / "cat" / "03.jpg"
    Path("idx.json").write_text(json.dumps({"cat": 3}))
    label = {"folder": 2, "label": 1, "class_to_idx": 3}[how]
    more = {"folder": [], "label": ["--data.label", "1"], "class_to_idx": ["--class_to_idx", "idx.json"]}[how]
    assert main([*fit, "--data.path", str(image), *more]) == 0
    printed = capsys.readouterr().out
    expected = oracle.trajectory(tiny_model, image, label, 0.05, 0.1, 40)
    outcome, losses = expected.outcome, expected.losses
    assert f"(label {label}, " in printed
    assert f"{outcome} after {len(losses)} steps, loss {losses[0]:.6g} to {losses[-1]:.6g}" in printed
    assert not Path("lightning_logs").exists()
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "data.path"),
        (["--data.path", "no.jpg"], "--data.path must be an image file, got no.jpg"),
        (["--data.path", "text.jpg"], "--data.path can't be read: text.jpg"),
        (["--data.path", "text.jpg", "--data.label", "4"], "--data.label must be a class index from 0 to 3, got 4"),
        (["--data.path", "text.jpg", "--epsilon", "0"], "--epsilon must be > 0, got 0"),
    ],
)
def test_bad_input(fit: list[str], argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.jpg").write_text("hello")
    more = [] if "--data.label" in argv else ["--data.label", "0"]
    assert main([*fit, *more, *argv]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_a_signal_ends_it_with_its_own_exit_code(fit: list[str], photographs: Path) -> None:
    argv = [*fit, "--data.path", str(photographs / "ant" / "00.jpg"), "--epsilon", "1e-30"]
    argv += ["--max_steps_per_example", "1000000"]
    argv += ["--trainer.callbacks+=TQDMProgressBar"]  # where rich is installed Lightning's bar says nothing to a pipe
    with started(argv, Path("said")) as program:
        while program.poll() is None and "it/s" not in Path("said").read_text():  # until the bar moves: it trains
            time.sleep(0.01)
        program.terminate()  # tests/test_study.py tries the other
        code, printed = program.wait(), Path("said").read_text()
    assert code == 128 + signal.SIGTERM, printed
    assert "stopped by SIGTERM" in printed
    assert "Traceback" not in printed
