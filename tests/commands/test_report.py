import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lightning_app.cli import main
from tests.analysis.test_reading import CURVES, write_study
from tests.analysis.test_results_csv import SEED, table


@pytest.fixture
def study() -> Path:
    folder = write_study(Path("outputs/tiny"))
    for path in CURVES:
        image = Path("images", path)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (10, 200, 30)).save(image)
    return folder


def test_a_folder_gives_words_tables_and_a_page_beside_its_results(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in study.rglob("*") if file.is_file()}
    assert main(["report", str(study)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "tiny: each of 4 images that the model got wrong was trained on alone by SGD with a learning rate of 0.1" in out
    )
    assert "2 came to it, 1 did not, 1 diverged; median > 6 steps. 1 that could not be trained are left out." in out
    assert "loss at or below n reached tied median steps Spearman Kendall's tau-b Harrell's C p" in out
    assert "without diverged" in out
    assert "4 examples tell a correlation of 0.99 from zero" in out
    assert "truncates the range" in out
    assert "about 0.90 is the largest correlation that anything can have with it" in out
    assert "The model is one of those that made the ranking" in out
    assert out.endswith("Page: outputs/tiny/report.html (with outputs/tiny/report/, which has the pictures and belongs"
                        " to it)")  # fmt: skip
    names = {file.name for file in (study / "report").iterdir()}
    assert {"steps_vs_difficulty.png", "loss_curves.png", "correlation_over_thresholds.png", "study-0.js"} <= names
    assert "survival.png" not in names  # fewer than five examples
    assert len(list((study / "report/thumbnails").iterdir())) == 4
    assert {file: file.read_bytes() for file in before} == before  # what was there is as it was
    page = (study / "report.html").read_text()
    assert "each of 4 images that the model got wrong" in page


def test_started_again_it_writes_the_same(study: Path) -> None:
    def made() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in study.rglob("*") if file.is_file()}

    assert main(["report", str(study)]) == 0
    first = made()
    assert main(["report", str(study)]) == 0
    assert made() == first


def test_json_is_the_statistics_and_writes_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    assert main(["report", str(study), "--json", "--epsilon", "0.065", "--epsilon", "0.3"]) == 0
    content = json.loads(capsys.readouterr().out)
    statistics = content["studies"]["tiny"]["statistics"]
    assert list(statistics["thresholds"]) == ["ln2", "0.3", "1e-1", "0.065", "epsilon"]
    assert statistics["thresholds"]["0.3"]["reached"] == 3
    assert statistics["thresholds"]["0.065"]["median_steps"] == 4.5
    assert statistics["thresholds"]["epsilon"]["median_steps"] is None  # most did not reach it
    assert content["studies"]["tiny"]["ranking_ceiling"] == 0.9
    assert content["step_rankings_agree"] == []
    assert sorted(Path().rglob("*")) == before


def test_any_csv_has_a_page_in_a_folder_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{k},x/{k}.png,{-1 if k == 7 else k + 1},0.01,{k}\n" for k in range(8))
    file = table(SEED + rows, "theirs.csv")
    assert main(["report", str(file)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "The table doesn't say which epsilon that was" in out
    assert "it is part of its own difficulty; that is not known here" in out
    assert Path("report_theirs/report.html").is_file()
    assert (Path("report_theirs/report/survival.png")).is_file()
    assert not Path("report_theirs/report/loss_curves.png").exists()  # it has no step logs
    assert main(["report", str(file), "--output_dir", "elsewhere/deep"]) == 0
    assert Path("elsewhere/deep/report.html").is_file()


def test_several_studies_stand_side_by_side(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(Path("outputs/other"))
    assert main(["report", "outputs/tiny", "outputs/other", "--root_dir", "images"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 studies side by side." in out
    assert "tiny and other order the 4 examples that both have trained with a Spearman correlation of +1.00" in out
    assert "Side by side, each at its epsilon" in out
    folder = Path("report_tiny_other/report")
    assert {
        "tiny_steps_vs_difficulty.png",
        "other_loss_curves.png",
        "correlation_over_thresholds.png",
        "study-1.js",
    } <= {file.name for file in folder.iterdir()}
    assert main(["report", "outputs/tiny", "outputs/other", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content["studies"]) == ["tiny", "other"]
    assert content["step_rankings_agree"][0]["studies"] == ["tiny", "other"]
    assert content["step_rankings_agree"][0]["spearman"]["value"] == pytest.approx(1)


@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_pictures_for_a_paper(study: Path, kind: str) -> None:
    assert main(["report", str(study), "--format", kind]) == 0
    folder = study / "report"
    assert (folder / f"loss_curves.{kind}").stat().st_size > 1000
    assert (folder / "loss_curves.png").is_file()
    assert f"loss_curves.{kind}" not in (study / "report.html").read_text()  # the page shows the PNG


def test_images_that_are_gone_are_said_and_the_page_is_made(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").rename("moved")
    assert main(["report", str(study)]) == 0
    assert "no thumbnails, its images are not found (there is no folder images); --root_dir" in capsys.readouterr().err
    assert main(["report", str(study), "--root_dir", "moved"]) == 0
    assert len(list((study / "report/thumbnails").iterdir())) == 4


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: FOLDER_OR_CSV"),
        (["nowhere"], "there is no nowhere"),
        (["outputs"], "these below it do: outputs/tiny"),
        (["outputs/tiny", "outputs/tiny"], "a study is given twice"),
        (["outputs/tiny", "--epsilon", "-1"], "argument --epsilon: must be a loss > 0, got -1"),
        (["outputs/tiny", "--epsilon", "small"], "argument --epsilon: must be a loss > 0, got small"),
        (["outputs/tiny", "--epsilon", "0.001"], "has trained to 0.01 and no further"),
        (["outputs/tiny", "--root_dir", "nowhere"], "--root_dir nowhere: there is no folder nowhere"),
        (["outputs/tiny", "--output_dir", "file"], "--output_dir: file can't be written"),
        (["outputs/tiny", "--format", "png"], "argument --format: invalid choice"),
        (["outputs/tiny", "--output_dir", "taken"], "taken/report is not the folder of a page"),
    ],
)
def test_bad_input_is_one_clear_error(
    study: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    Path("taken/report").mkdir(parents=True)
    before = sorted(Path().rglob("*"))
    assert main(["report", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert sorted(Path().rglob("*")) == before


def test_it_needs_no_torch(study: Path) -> None:
    program = (
        "import sys; from lightning_app.cli import main; assert main(['report', sys.argv[1]]) == 0;"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program, str(study)], check=False, capture_output=True).returncode == 0
