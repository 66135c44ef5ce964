import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from lightning_app import load_results, load_steps
from lightning_app.analysis.load import open_studies, open_study
from lightning_app.analysis.summary import summarize
from lightning_app.data.example import Example
from lightning_app.data.stop_rule import Outcome
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.errors import BadInputError
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import CommandLine
from tests.analysis.test_foreign_csv import SEED, table
from tests.store.studies import begun

CURVES: dict[str, tuple[Outcome, list[float]]] = {
    "cat/a,1.jpg": ("reached", [2.0, 0.625, 0.25, 0.0078125]),
    "cat/b.jpg": ("reached", [3.0, 0.0859375, 0.0703125, 0.0625, 0.0078125]),
    "dog/c.jpg": ("censored", [4.0, 3.0, 2.0, 0.25, 0.046875, 0.0546875]),
    "dog/d.jpg": ("diverged", [5.0, 6.0, math.inf]),
}
"""Every loss is a float32."""
ERROR = "dog/e.jpg"
EPSILON = 0.01
COMMAND = CommandLine(
    "model_name: tiny\nroot_dir: images\n",
    {"model_name": "tiny", "root_dir": "images"},
    {"ranked": 100},
    {"models": ["a", "tiny"], "model_is_in_it": True, "reliability": 0.81, "ceiling": 0.9},
)
IDENTITY = {"select": "wrong", "optimizer": {"name": "SGD", "lr": 0.1}}


def sample(count: int) -> list[Example]:
    """The first examples: those above, an error, and then some that are not trained."""
    paths = [*CURVES, ERROR, *(f"dog/{number}.jpg" for number in range(count))][:count]
    return [Example(index, path, Path("x"), min(index // 2, 1), 10 * index + 1) for index, path in enumerate(paths)]


def begin(folder: Path, examples: Sequence[Example], environment: dict[str, object] | None = None) -> StudyFolder:
    """A study of some examples, begun or gone on with."""
    there = {"python": "3"} if environment is None else environment
    study, _ = begun(folder, examples, 6, epsilon=EPSILON, environment=there, command=COMMAND, identity=IDENTITY)
    return study


def result_of(example: Example) -> Trajectory | Failure:
    """How its training ended."""
    if example.path not in CURVES:
        return Failure(example, "broken")
    outcome, losses = CURVES[example.path]
    return Trajectory(example, outcome, losses, 1 - example.label, 2, 0.1, 0.5)


def write_study(folder: Path, sampled: int = 5) -> Path:
    """A study of four trained examples and an error, as a run leaves it, but for picture and summary."""
    study = begin(folder, sample(sampled))
    for example in sample(sampled)[:5]:
        study.commit(result_of(example))
    study.export()
    return folder


@pytest.fixture
def study() -> Path:
    return write_study(Path("outputs/tiny"))


def test_a_frame_for_notebooks(study: Path) -> None:
    frame = load_results(study)
    assert frame["study"].tolist() == ["tiny"] * 5
    assert frame["path"].tolist() == [*CURVES, "dog/e.jpg"]
    assert frame["total_steps_to_epsilon"].tolist() == [4, 5, -1, -1, -1]
    assert frame["steps"].tolist() == [4, 5, 7, 7, pd.NA]
    assert frame["not_reached"].tolist() == [False, False, True, True, pd.NA]
    assert frame["outcome"].tolist() == ["reached", "reached", "censored", "diverged", "error"]
    assert (frame["epsilon"].unique().tolist(), frame["limit"].unique().tolist()) == ([0.01], [6])
    assert [str(frame[name].dtype) for name in ("steps", "steps_to_1e-3", "final_loss", "not_reached")] == [
        "Int64", "Int64", "float64", "boolean"
    ]  # fmt: skip
    assert frame["steps_to_1e-3"].isna().all()  # below epsilon nobody looked
    assert frame["final_loss"][2] == 0.0546875


def test_a_rank_correlation_of_the_frame_is_the_reports(study: Path) -> None:
    frame = load_results(study).dropna(subset="steps")
    rho = stats.spearmanr(frame["steps"].astype(int), frame["universal_difficulty_rank"]).statistic
    assert rho == pytest.approx(summarize(open_study(study)).at_epsilon.correlation.value)


def test_another_epsilon_comes_from_the_losses(study: Path) -> None:
    frame = load_results(study, epsilon=0.065)
    assert frame["steps"].tolist() == [4, 4, 5, 7, pd.NA]
    assert frame["not_reached"].tolist() == [False, False, False, True, pd.NA]
    assert frame["epsilon"].unique().tolist() == [0.065]
    assert frame["total_steps_to_epsilon"].tolist() == [4, 5, -1, -1, -1]  # as in the file
    again = load_results(study, epsilon=0.1)
    assert again["steps"].dropna().tolist() == again["steps_to_1e-1"].dropna().replace(-1, 7).tolist()


def test_several_studies_are_one_frame_under_names_that_differ(study: Path) -> None:
    write_study(Path("outputs/other"))
    write_study(Path("elsewhere/tiny"))
    frame = load_results(study, "outputs/other", "elsewhere/tiny")
    assert frame["study"].unique().tolist() == ["outputs/tiny", "other", "elsewhere/tiny"]
    assert len(frame) == 15


def test_one_examples_curve_by_index_or_path(study: Path) -> None:
    curve = load_steps(study, 1)
    assert curve["step"].tolist() == [1, 2, 3, 4, 5]
    assert curve["loss"].tolist() == CURVES["cat/b.jpg"][1]
    assert load_steps(study, "cat/a,1.jpg")["loss"].tolist() == CURVES["cat/a,1.jpg"][1]
    assert load_steps(study / "single_example_results.csv", 3)["loss"].tolist() == CURVES["dog/d.jpg"][1]
    with pytest.raises(BadInputError, match="outputs/tiny has no example whose path is 'nobody'"):
        load_steps(study, "nobody")
    with pytest.raises(BadInputError, match=r"'dog/e\.jpg' is an error and has no losses: broken"):
        load_steps(study, 4)


def test_they_need_no_torch(study: Path) -> None:
    program = (
        "import sys, lightning_app; assert 'pandas' not in sys.modules;"
        f"lightning_app.load_results({str(study)!r}); lightning_app.load_steps({str(study)!r}, 0);"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_a_folder_says_of_itself(study: Path) -> None:
    metadata = open_study(study).metadata
    assert (metadata.model_name, metadata.select, metadata.lr, metadata.root_dir) == (
        "tiny",
        "wrong",
        0.1,
        Path("images"),
    )
    assert (metadata.examples, metadata.left, metadata.easiest_part) == (5, 0, False)
    assert (metadata.in_its_ranking, metadata.reliability, metadata.ceiling) == (True, 0.81, 0.9)


def test_a_study_that_is_not_complete() -> None:
    metadata = open_study(write_study(Path("half"), sampled=9)).metadata
    assert (metadata.left, metadata.easiest_part) == (4, True)


def test_environments_that_differ_are_named(study: Path) -> None:
    assert open_study(study).metadata.environments == ()
    first, *others = map(result_of, sample(4))
    begin(Path("two"), sample(4), {"python": "3.12", "torch": "2.11"}).commit(first)
    resumed = begin(Path("two"), sample(4), {"python": "3.12", "torch": "2.15"})
    assert open_study(Path("two")).metadata.environments == ()  # nothing is trained in the second yet
    for other in others:
        resumed.commit(other)
    assert open_study(Path("two")).metadata.environments == ("torch 2.11 and 2.15",)


def test_what_else_a_folder_says_may_be_missing_or_odd() -> None:
    odd = CommandLine("", {"model_name": 3, "root_dir": []}, {}, {"ceiling": True, "model_is_in_it": "yes"})
    for name, command in (("empty", CommandLine("", {}, {})), ("odd", odd)):
        study, _ = begun(Path(name), sample(2), 6, epsilon=EPSILON, command=command)
        study.commit(result_of(sample(1)[0]))
        metadata = open_study(Path(name)).metadata
        assert (metadata.root_dir, metadata.lr, metadata.in_its_ranking) == (None, None, None)
        assert math.isnan(metadata.ceiling)


def test_rows_that_are_not_in_the_sample_are_left_out(study: Path) -> None:
    begin(study, [example for example in sample(5) if example.path != "cat/b.jpg"])
    found = open_study(study)
    assert found.frame["path"].tolist() == [path for path in (*CURVES, ERROR) if path != "cat/b.jpg"]
    assert found.losses_of(1).tolist() == CURVES["dog/c.jpg"][1]


def test_while_a_run_writes_its_last_line(study: Path) -> None:
    before = load_results(study)
    with (study / "study.jsonl").open("a") as stream:
        stream.write('{"kind":"example","path":"dog/f.jpg","ra')
    pd.testing.assert_frame_equal(load_results(study), before)


def test_what_a_run_exports_is_not_read_again(study: Path) -> None:
    """An edited table and lost or renamed step logs change nothing."""
    before = load_results(study, epsilon=0.065)
    table = study / "single_example_results.csv"
    table.write_text(table.read_text().replace("censored", "reached"))
    first, second, *_ = sorted((study / "step_logs").iterdir())
    first.unlink()
    second.rename(second.with_name("example_1_somebody_else_steps.csv"))
    for place in (study, table):
        pd.testing.assert_frame_equal(load_results(place, epsilon=0.065), before)
    table.unlink()
    pd.testing.assert_frame_equal(load_results(study, epsilon=0.065), before)
    assert load_steps(study, 1)["loss"].tolist() == CURVES["cat/b.jpg"][1]


def test_a_folder_of_an_earlier_version_is_read_by_its_table_and_step_logs(study: Path) -> None:
    expected = load_results(study, epsilon=0.065)
    (study / "study.jsonl").unlink()
    (study / "run.json").write_text('{"format": 2, "identity": {"epsilon": 0.01}}')
    found = load_results(study, epsilon=0.065)
    pd.testing.assert_frame_equal(found, expected)
    assert load_steps(study, 1)["loss"].tolist() == CURVES["cat/b.jpg"][1]


def first_line(text: str) -> str:
    """Another first line."""
    return "\n".join([text, *Path("outputs/tiny/study.jsonl").read_text().split("\n")[1:]])


@pytest.mark.parametrize(
    ("make", "line", "why"),
    [
        (lambda text: text.replace('"outcome":"diverged"', '"outcome":"won"'), 8, "Invalid enum value 'won'"),
        (lambda text: text.replace('"outcome":"diverged"', '"outcome":"reached"'), 8, "its outcome is 'reached', and"),
        (lambda text: text.replace('"kind":"target"', '"kind":"goal"'), 3, "Invalid value 'goal'"),
        (
            lambda text: first_line('{"kind":"study","format":4,"identity":{}}'),
            1,
            "it has format 4, this version reads",
        ),
        (lambda text: first_line("odd"), 1, "it is not JSON"),
    ],
    ids=["odd outcome", "outcome and losses", "odd kind", "newer format", "no JSON"],
)
def test_a_log_that_is_not_as_it_was_written_is_named_with_its_line(
    study: Path, make: Callable[[str], str], line: int, why: str
) -> None:
    log = study / "study.jsonl"
    log.write_text(make(log.read_text()))
    with pytest.raises(BadInputError, match=f"holds a study that can't be read: study.jsonl, line {line}: .*{why}"):
        open_study(study)


def test_our_own_table_alone_has_its_thresholds_too(study: Path) -> None:
    copy = Path("copy.csv")
    copy.write_bytes((study / "single_example_results.csv").read_bytes())
    lines = summarize(open_study(copy)).lines
    assert [line.name for line in lines] == ["ln2", "1e-1", "1e-2", "epsilon"]
    assert lines[-1].correlation.value == summarize(open_study(study)).at_epsilon.correlation.value


def test_other_peoples_step_logs_are_found_by_their_number() -> None:
    file = table(SEED + "0,/x/a.JPEG,3,0.01,5\n1,/x/b.JPEG,2,0.01,7\n", "single_example_results.csv")
    Path("step_logs").mkdir()
    Path("step_logs/example_0_a_steps.csv").write_text("step,loss\r\n1,0.9\r\n2,0.4\r\n3,0.01\r\n")
    Path("step_logs/example_1_b_steps.csv").write_text("step,loss\n1,0.3\n2,0.01\n")
    assert load_results(file, epsilon=0.45)["steps"].tolist() == [2, 1]
    Path("others.csv").write_text(file.read_text())
    assert open_study(Path("others.csv")).without_losses == 2  # these may be of another study
    with pytest.raises(BadInputError, match=r"--epsilon 0.005: .* has not trained so far: '/x/a.JPEG' ended above"):
        open_study(file, [0.005])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: open_study(Path("nowhere")), "there is no nowhere"),
        (lambda: open_study(Path("outputs")), "outputs holds no single_example_results.csv; these below it do: outp"),
        (lambda: open_studies([]), "expected one or more results folders"),
        (lambda: open_studies([Path("outputs/tiny"), Path("outputs/../outputs/tiny")]), "a study is given twice"),
        (lambda: open_studies([Path("outputs/tiny"), Path("outputs/tiny/single_example_results.csv")]), "given twice"),
        (lambda: open_study(Path("outputs/tiny"), [0.001]), "--epsilon 0.001: outputs/tiny has trained to 0.01 and no"),
        (lambda: open_study(table(SEED + "0,a,3,0.01,5\n"), [0.1]), "--epsilon 0.1 needs the loss of each step"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_error(study: Path, make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(BadInputError) as error:
        make()
    assert message in str(error.value)


def test_a_study_before_its_first_example() -> None:
    begin(Path("new"), sample(5))
    with pytest.raises(BadInputError, match="new: no example of this study is done yet"):
        open_study(Path("new"))


@pytest.mark.parametrize("lines", ["0,0.9\n1,0.4\n2,0.01\n", "10,0.9\n20,0.4\n30,0.01\n", "1,0.9\n3,0.01\n"])
def test_step_logs_whose_steps_are_not_1_2_3_are_refused(lines: str) -> None:
    file = table(SEED + "0,a,3,0.01,5\n", "single_example_results.csv")
    Path("step_logs").mkdir()
    Path("step_logs/example_0_a_steps.csv").write_text(f"step,loss\n{lines}")
    with pytest.raises(BadInputError, match="the losses of 'a' can't be read: its steps are not 1, 2, 3"):
        load_results(file, epsilon=0.5)
    with pytest.raises(BadInputError, match="its steps are not 1, 2, 3"):
        load_steps(file, 0)


def test_a_number_that_two_logs_have_is_not_taken() -> None:
    file = table(SEED + "0,a,2,0.01,5\n", "single_example_results.csv")
    Path("step_logs").mkdir()
    for name in ("x", "y"):
        Path(f"step_logs/example_0_{name}_steps.csv").write_text("step,loss\n1,0.9\n2,0.01\n")
    with pytest.raises(BadInputError, match="'a' has no step log"):
        load_steps(file, 0)


def test_what_is_recorded_needs_no_step_logs(study: Path) -> None:
    Path("copy.csv").write_bytes((study / "single_example_results.csv").read_bytes())
    assert load_results("copy.csv", epsilon=0.1)["steps"].dropna().tolist() == [4, 2, 5, 7]
    assert load_results(study, epsilon=0.01)["steps"].dropna().tolist() == [4, 5, 7, 7]


def test_a_frame_that_was_written_down_is_read_again(study: Path) -> None:
    frame = load_results(study)
    frame.to_csv("again.csv", index=False)
    again = load_results("again.csv")
    assert again["steps"].tolist() == frame["steps"].tolist()
    assert again.columns.tolist() == frame.columns.tolist()


@pytest.mark.parametrize("epsilon", [0, -1, math.nan, math.inf])
def test_a_threshold_must_be_a_loss(study: Path, epsilon: float) -> None:
    with pytest.raises(BadInputError, match="--epsilon must be a loss > 0, got"):
        load_results(study, epsilon=epsilon)


def test_a_step_log_that_is_gone_is_named() -> None:
    file = table(SEED + "0,a,2,0.01,5\n1,b,2,0.01,7\n", "single_example_results.csv")
    Path("step_logs").mkdir()
    Path("step_logs/example_0_a_steps.csv").write_text("step,loss\n1,0.9\n2,0.01\n")
    assert open_study(file).without_losses == 1
    with pytest.raises(BadInputError, match="the losses of 'b' can't be read: 'b' has no step log in step_logs"):
        load_results(file, epsilon=0.5)
