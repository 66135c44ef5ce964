import json
import math
from pathlib import Path

import pytest

from lightning_app.errors import BadInputError
from lightning_app.inputs.example import Example
from lightning_app.results.answers import Answers
from lightning_app.results.records import COLUMNS
from lightning_app.results.run_folder import RunFolder, folder_name, json_text
from lightning_app.training.trajectory import Failure, Trajectory


def result(index: int, path: str = "a.jpg") -> Trajectory:
    return Trajectory(Example(index, path, Path(path), 0, index + 1), "reached", [2.0, 0.5], 1, 2, 0.1, 1.0)


def lines(folder: Path) -> list[str]:
    return (folder / "single_example_results.csv").read_text().splitlines()


@pytest.mark.parametrize(
    ("model_name", "name"),
    [
        ("resnet34.a3_in1k", "resnet34.a3_in1k"),
        ("hf-hub:timm/vit b", "hf-hub_timm_vit_b"),
        ("local-dir:/models/my net/", "my_net"),
        ("../../etc", ".._.._etc"),
    ],
)
def test_a_models_folder(model_name: str, name: str) -> None:
    assert folder_name(model_name) == name


@pytest.mark.parametrize("model_name", ["..", ".", "local-dir:/"])
def test_a_name_of_dots_is_refused(model_name: str) -> None:
    with pytest.raises(BadInputError, match="gives no name for an output folder"):
        folder_name(model_name)


def test_a_row_and_its_log_are_on_disk_as_soon_as_an_example_ends(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "out" / "m", overwrite=False)
    folder.create()
    folder.start("{}", "")
    assert lines(folder.folder) == [",".join(COLUMNS)]
    folder.commit(result(1), 0.5)
    assert len(lines(folder.folder)) == 2
    assert (folder.folder / "step_logs" / "example_1_a.jpg_steps.csv").read_text() == "step,loss\n1,2.0\n2,0.5\n"
    folder.commit(Failure(Example(0, "b.jpg", Path("b.jpg"), 0, 1), "broken"), 0.5)
    assert [line.split(",")[0] for line in lines(folder.folder)] == ["example_index", "1", "0"]
    assert len(list((folder.folder / "step_logs").iterdir())) == 1
    assert not list(tmp_path.rglob(".writing"))


def test_at_rest_rows_are_sorted_by_index(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "m", overwrite=False)
    folder.create()
    folder.start("{}", "")
    rows = [folder.commit(result(index), 0.5) for index in (10, 9, 0, 100)]
    folder.rest(rows)
    assert [line.split(",")[0] for line in lines(folder.folder)[1:]] == ["0", "9", "10", "100"]


def test_a_study_is_refused_or_moved_aside_with_its_answers_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "m", overwrite=False)
    Answers(folder.folder, {"k": 1}).put("a.jpg", 0, True)
    assert folder.create() is None  # answers alone are no study
    folder.start("{}", "")
    folder.commit(result(0), 0.5)
    with pytest.raises(BadInputError, match="holds a study already: --overwrite moves it aside"):
        RunFolder(tmp_path / "m", overwrite=False)
    for _ in range(2):
        again = RunFolder(tmp_path / "m", overwrite=True)
        aside = again.create()
        again.start("{}", "")
        assert aside is not None
    assert len(list(tmp_path.glob("m.old-*"))) == 2
    first = next(f for f in tmp_path.glob("m.old-*") if len(lines(f)) == 2)
    assert (first / "step_logs" / "example_0_a.jpg_steps.csv").is_file()
    assert Answers(again.folder, {"k": 1}).get("a.jpg", 0) is True


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInputError, match=r"--output_dir: .*can't be written: .*file is no folder"):
        RunFolder(tmp_path / "file" / "m", overwrite=False)
    assert RunFolder(tmp_path / "new" / "m", overwrite=False).folder.exists() is False
    with pytest.raises(BadInputError, match="can't be written"):
        RunFolder(Path("/proc/nothing/m"), overwrite=False).create()


def test_answers_are_kept_by_path_label_and_identity(tmp_path: Path) -> None:
    answers = Answers(tmp_path, {"weights": "x"})
    answers.put('a,"b"\n.jpg', 3, True)
    answers.put("c.jpg", 0, False)
    with answers.file.open("a") as stream:
        stream.write("d.jpg,0,")  # a power cut in the middle of a line
    again = Answers(tmp_path, {"weights": "x"})
    assert again.get('a,"b"\n.jpg', 3) is True
    assert again.get("c.jpg", 0) is False
    assert again.get("d.jpg", 0) is None
    assert again.get("c.jpg", 1) is None
    again.put("d.jpg", 0, True)
    assert Answers(tmp_path, {"weights": "x"}).get("d.jpg", 0) is True
    assert Answers(tmp_path, {"weights": "y"}).get("c.jpg", 0) is None


def test_json_has_null_for_what_is_not_finite() -> None:
    content = {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf, "p": Path("x")}}
    assert json.loads(json_text(content)) == {"a": [None, [None, 1.5]], "b": {"c": None, "p": "x"}}
