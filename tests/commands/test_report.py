import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from lightning_app.cli import main
from tests.analysis.test_foreign_csv import SEED, table
from tests.analysis.test_load import CURVES, begin, result_of, sample, write_study


@pytest.fixture
def study() -> Path:
    folder = write_study(Path("outputs/tiny"))
    for path in CURVES:
        image = Path("images", path)
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (10, 200, 30)).save(image)
    return folder


def pictures_of(page: str) -> list[str]:
    """The captions of those in a page."""
    return re.findall(r'<img src="data:image/png;base64,[^"]{1000,}" alt="([^"]*)">', page)


def thumbnails_of(page: str) -> int:
    """How many are in a page."""
    (found,) = re.findall(r'id="thumbnails">([^<]*)</script>', page)
    return str(found).count("data:image/png;base64,")


def test_a_folder_gives_words_tables_and_a_page_beside_its_results(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {file: file.read_bytes() for file in study.rglob("*") if file.is_file()}
    assert main(["report", str(study)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert (
        "tiny: each of 4 images that the model got wrong was trained on alone by SGD with a learning rate of 0.1" in out
    )
    assert (
        "2 came to it, 2 did not, 1 of them diverged; steps in the median: > 6. Left out: 1 that could not be trained."
        in out
    )
    assert "loss at or below n reached tied median steps Spearman Kendall's tau-b Harrell's C p" in out
    assert "without diverged" in out
    assert "4 examples tell a correlation of 0.99 from zero" in out
    assert "truncates the range" in out
    assert "its reliability is about 0.81, so that about 0.90 is the largest correlation" in out
    assert "The model is one of those that made the ranking" in out
    assert out.endswith("Page: outputs/tiny/report.html")
    after = {file: file.read_bytes() for file in study.rglob("*") if file.is_file()}
    assert after.keys() - before.keys() == {study / "report.html"}
    assert {file: after[file] for file in before} == before  # what was there is as it was
    page = (study / "report.html").read_text()
    # Not the share that is not there yet, by difficulty: there are fewer than five examples.
    assert pictures_of(page) == ["tiny: steps and difficulty", "tiny: loss curves", "Correlation over the thresholds"]
    assert thumbnails_of(page) == 4
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
    assert (
        "The table doesn't say which epsilon that was. Nor how many steps were allowed; no example took more than 7."
        in out
    )
    assert "it is part of its own difficulty; that is not known here" in out
    assert Path("report_theirs/report.html").is_file()
    shown = pictures_of(Path("report_theirs/report.html").read_text())
    assert "theirs: the share not there yet, by difficulty" in shown
    assert "theirs: loss curves" not in shown  # it has no step logs
    assert main(["report", str(file), "--output_dir", "elsewhere/deep"]) == 0
    assert Path("elsewhere/deep/report.html").is_file()


def test_several_studies_stand_side_by_side(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(Path("outputs/other"))
    assert main(["report", "outputs/tiny", "outputs/other", "--root_dir", "images"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 studies side by side." in out
    assert "tiny and other order the 4 examples that both have trained with a Spearman correlation of +1.00" in out
    assert "Side by side, each at its epsilon" in out
    page = Path("report_tiny_other/report.html").read_text()
    assert {"tiny: steps and difficulty", "other: loss curves"} <= {*pictures_of(page)}
    assert 'id="curves-1"' in page
    assert main(["report", "outputs/tiny", "outputs/other", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert list(content["studies"]) == ["tiny", "other"]
    assert content["step_rankings_agree"][0]["studies"] == ["tiny", "other"]
    assert content["step_rankings_agree"][0]["spearman"]["value"] == pytest.approx(1)


def test_pictures_for_a_paper(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(study)]) == 0
    without = (study / "report.html").read_bytes()
    assert main(["report", str(study), "--format", "svg", "--format", "pdf", "--format", "svg"]) == 0
    assert capsys.readouterr().out.endswith("Pictures: outputs/tiny/report_pictures/\n")
    assert (study / "report.html").read_bytes() == without  # the page shows the PNG
    names = ("correlation_over_thresholds", "loss_curves", "steps_vs_difficulty")
    files = sorted((study / "report_pictures").iterdir())
    assert [file.name for file in files] == [f"{name}.{kind}" for name in names for kind in ("pdf", "svg")]
    assert min(file.stat().st_size for file in files) > 1000
    assert main(["report", str(study), "--format", "png", "--output_dir", "elsewhere"]) == 0
    assert sorted(file.name for file in Path("elsewhere").rglob("*.*")) == [
        "correlation_over_thresholds.png", "loss_curves.png", "report.html", "steps_vs_difficulty.png",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_in_the_way_of_the_pictures_is_refused_before_any_work(
    study: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("victim").mkdir()
    place = study / "report_pictures"
    if kind == "file":
        place.write_text("theirs")
    else:
        place.symlink_to(Path("victim").resolve())
    assert main(["report", str(study), "--format", "pdf"]) == 2
    captured = capsys.readouterr()
    assert f"outputs/tiny/report_pictures is a {kind}; move it, or choose another --output_dir" in captured.err
    assert captured.out == ""
    assert not (study / "report.html").exists()
    assert main(["report", str(study)]) == 0  # which writes none
    assert list(Path("victim").iterdir()) == []


def test_files_beside_the_pictures_stay(study: Path) -> None:
    folder = study / "report_pictures"
    folder.mkdir()
    Path("precious").write_text("precious")
    (folder / "notes.txt").write_text("theirs")
    (folder / "loss_curves.pdf").symlink_to(Path("precious").resolve())
    assert main(["report", str(study), "--format", "pdf"]) == 0
    assert (folder / "notes.txt").read_text() == "theirs"
    assert (folder / "loss_curves.pdf").read_bytes().startswith(b"%PDF")
    assert Path("precious").read_text() == "precious"


def test_images_that_are_gone_are_said_and_the_page_is_made(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").rename("moved")
    assert main(["report", str(study)]) == 0
    assert (
        "no thumbnails, for no image is found below images (such as 'cat/a,1.jpg'); --root_dir"
        in capsys.readouterr().err
    )
    assert thumbnails_of((study / "report.html").read_text()) == 0
    assert main(["report", str(study), "--root_dir", "moved"]) == 0
    assert thumbnails_of((study / "report.html").read_text()) == 4


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ("".join(f"{k},p{k},-1,0.5,{k}\n" for k in range(30)), "none came to its epsilon (n = 30)"),
        ("0,a,7,0.5,5\n", "Too few images to say whether harder ones take more steps (n = 1)"),
        ("".join(f"{k},p{k},7,0.01,{k}\n" for k in range(30)), "all have the same number of steps (n = 30)"),
        ("".join(f"{k},p{k},{k + 1},0.01,{k}\n" for k in range(9)), "can't be told: Spearman +1.00"),
    ],
    ids=["none reached", "one row", "constant", "in order"],
)
def test_tables_that_say_nothing_have_a_report_too(
    rows: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(table(SEED + rows))]) == 0
    captured = capsys.readouterr()
    assert sentence in " ".join(captured.out.split())
    assert "nan" not in captured.out
    assert Path("report_theirs/report.html").is_file()
    assert main(["report", "theirs.csv", "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_a_study_of_errors_alone_has_a_report_too(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("outputs/odd")
    study = begin(folder, sample(5)[4:])
    study.commit(result_of(sample(5)[4]))
    assert main(["report", str(folder)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Too few images to say whether harder ones take more steps (n = 0)" in out
    assert "Left out: 1 that could not be trained." in out
    assert (folder / "report.html").is_file()


def test_what_a_person_edits_in_a_studys_table_is_not_in_its_report(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(study), "--json"]) == 0
    before = capsys.readouterr().out
    results = study / "single_example_results.csv"
    results.write_text(results.read_text().replace(",41,error", ",43,error").replace("diverged", "censored"))
    shutil.rmtree(study / "step_logs")
    for place in (study, results):
        assert main(["report", str(place), "--json"]) == 0
        assert capsys.readouterr().out == before


def test_a_study_of_an_earlier_version_has_a_report(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(study), "--json"]) == 0
    expected = json.loads(capsys.readouterr().out)["studies"]["tiny"]["statistics"]
    (study / "study.jsonl").unlink()
    (study / "run.json").write_text('{"format": 2, "identity": {"epsilon": 0.01}}')
    assert main(["report", str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["studies"]["tiny"]["statistics"]
    assert (found["n"], found["outcomes"], found["limit"]) == (4, expected["outcomes"], 6)
    for name, line in expected["thresholds"].items():
        assert found["thresholds"][name]["spearman"] == line["spearman"]
    assert main(["report", str(study)]) == 0
    assert "tiny: loss curves" in pictures_of((study / "report.html").read_text())


def test_step_logs_that_are_missing_are_counted(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "study.jsonl").unlink()  # as an earlier version leaves a study, or somebody else
    next((study / "step_logs").glob("example_1_*")).unlink()
    assert main(["report", str(study)]) == 0
    assert "tiny: 1 of its examples have no step log, and no loss curve" in capsys.readouterr().err


def test_who_reads_no_further_is_not_bothered(study: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "lightning_app", "report", str(study), "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout is not None
    program.stdout.close()
    _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (128 + signal.SIGPIPE, "")


def test_studies_of_one_name_keep_their_pictures() -> None:
    rows = "".join(f"{k},p{k},{k + 1},0.01,{(7 * k) % 9}\n" for k in range(9))
    for name in ("a b.csv", "a+b.csv"):
        table(SEED + rows, name)
    assert main(["report", "a b.csv", "a+b.csv", "--output_dir", "both", "--format", "png"]) == 0
    assert len(list(Path("both/report_pictures").glob("*_steps_vs_difficulty.png"))) == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: folder_or_csv"),
        (["nowhere"], "there is no nowhere"),
        (["outputs"], "these below it do: outputs/tiny"),
        (["outputs/tiny", "outputs/tiny"], "a study is given twice"),
        (["outputs/tiny", "--epsilon", "-1"], "--epsilon must be a loss > 0, got -1"),
        (["outputs/tiny", "--epsilon", "small"], "--epsilon must be a loss > 0, got small"),
        (["outputs/tiny", "--epsilon", "0.001"], "has trained to 0.01 and no further"),
        (["outputs/tiny", "--root_dir", "nowhere"], "--root_dir nowhere: there is no folder nowhere"),
        (["outputs/tiny", "--output_dir", "file"], "--output_dir: file can't be written"),
        (["outputs/tiny", "--format", "gif"], "--format must be png, svg or pdf, got gif"),
        (["outputs/tiny", "--output_dir", "taken"], "taken/report.html is not a page of this program"),
    ],
)
def test_bad_input_is_one_clear_error(
    study: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    Path("taken/report.html").mkdir(parents=True)
    before = sorted(Path().rglob("*"))
    assert main(["report", *argv]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.out == ""
    assert sorted(Path().rglob("*")) == before


def test_it_needs_no_torch(study: Path) -> None:
    program = (
        "import sys; from lightning_app.cli import main; assert main(['report', sys.argv[1]]) == 0;"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program, str(study)], check=False, capture_output=True).returncode == 0
