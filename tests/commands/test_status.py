import json
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_app.cli import main
from lightning_app.data.trajectory import Failure
from tests.store.studies import example
from tests.store.test_status import study_of, trained


@pytest.fixture
def folder() -> Path:
    folder = Path("outputs/tiny")
    study = study_of(folder)
    study.commit(trained(0))
    study.commit(Failure(example(1), "torn"))
    return folder


def test_words(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "outputs/tiny: stopped",
        "Done       2 of 4 examples, 2 left",
        "Outcomes   1 error, 1 reached",
        "           rerun its last command to try the 1 with an error again",
        "Rate       2.0 steps/s, 1800 examples/hour by one device",
        "Time left  0:00:04 at the pace of the last examples by one device",
        "           rerun its last command to resume; config.yaml has it",
        "Last error none",
    ]


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(folder), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["folder"] == "outputs/tiny"
    assert (status["state"], status["examples"], status["done"], status["left"]) == ("stopped", 4, 2, 2)
    assert (status["outcomes"], status["seconds_left"], status["last_error"]) == ({"error": 1, "reached": 1}, 4.0, None)


def test_it_imports_no_torch_and_no_pandas(folder: Path) -> None:
    script = "import sys; from lightning_app.cli import main; main(['status', sys.argv[1]]); "
    script += "print({'torch', 'pandas', 'numpy', 'lightning'} & {name.split('.')[0] for name in sys.modules})"
    root = Path(__file__).parents[2]
    program = [sys.executable, "-c", script, str(folder.absolute())]
    done = subprocess.run(program, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: folder; steps-to-epsilon status --help shows what it takes"),
        (["nowhere"], "nowhere holds no study"),
        (["outputs"], "outputs is not a study's folder; it holds these: outputs/tiny"),
        (["outputs/tiny", "--jsn"], "--jsn is no option of status; near names: json"),
    ],
)
def test_bad_input_is_one_line(folder: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", *argv]) == 2
    assert capsys.readouterr().err.startswith(f"steps-to-epsilon status: error: {message}")
