import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import NEVER
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.files import csv_text
from lightning_app.store.export import COLUMNS, Row, first_steps, row_of, row_text, step_log_name, step_log_text
from lightning_app.store.study_log import example_line, losses_in
from tests.store.studies import trajectory as ended

EXAMPLE = Example(3, "/val/n1/a, b.jpg", Path("a.jpg"), 7, 12)
HEADER = (
    "example_index,path,total_steps_to_epsilon,final_loss,universal_difficulty_rank,outcome,label,predicted_before,"
    "initial_loss,steps_run,steps_to_correct,steps_to_ln2,steps_to_1e-1,steps_to_1e-2,steps_to_1e-3,steps_to_1e-4,"
    "steps_to_1e-5,steps_to_1e-6,total_loss_sum,weight_distance,seconds"
)


def row(losses: list[float], epsilon: float) -> Row:
    line = example_line(replace(ended(EXAMPLE, losses, 1.5, epsilon), predicted_before=2, steps_to_correct=-1), 1)
    return row_of(line, losses_in(line, epsilon), EXAMPLE.index, epsilon)


def test_the_columns_and_their_order() -> None:
    assert ",".join(COLUMNS) == HEADER


def test_a_reached_row() -> None:
    losses = np.array([2.0, math.log(2), 0.1, 0.0099], dtype=np.float32).astype(float).tolist()
    total = repr(math.fsum(losses))
    # As a float32, ln 2 is above ln 2, and 0.1 above 0.1.
    assert row_text(row(losses, 0.01)) == (
        f'3,"/val/n1/a, b.jpg",4,{losses[3]!r},12,reached,7,2,2.0,4,-1,3,4,4,,,,,{total},0.1,1.5\n'
    )


def test_a_threshold_that_was_looked_for_and_not_met_is_minus_one() -> None:
    found = row([2.0, 0.09], 1e-3)
    assert found["total_steps_to_epsilon"] == -1
    assert [found[f"steps_to_{name}"] for name in ("ln2", "1e-1", "1e-2", "1e-3", "1e-4")] == [2, 2, -1, -1, None]


def test_an_epsilon_above_every_threshold_leaves_all_empty() -> None:
    found = row([2.0, 0.8], 0.9)
    assert {found[name] for name in COLUMNS if name.startswith("steps_to_") and name != "steps_to_correct"} == {None}


@pytest.mark.parametrize(("last", "distance"), [(math.nan, math.nan), (math.inf, math.inf), (math.inf, -math.inf)])
def test_a_diverged_row_writes_what_is_not_finite(last: float, distance: float) -> None:
    line = example_line(Trajectory(EXAMPLE, "diverged", [2.0, last], 2, -1, distance, 1.0), 1)
    text = row_text(row_of(line, losses_in(line, 1e-6), 3, 1e-6))
    cells = dict(zip(COLUMNS, next(csv.reader([text])), strict=True))
    assert (cells["final_loss"], cells["weight_distance"], cells["total_loss_sum"]) == (
        repr(last), repr(distance), repr(last)
    )  # fmt: skip
    assert cells["total_steps_to_epsilon"] == "-1"


def test_an_error_row_has_no_numbers() -> None:
    text = row_text(row_of(example_line(Failure(EXAMPLE, "cut short"), 0), None, 3, 1e-6))
    assert {name: cell for name, cell in zip(COLUMNS, next(csv.reader([text])), strict=True) if cell} == {
        "example_index": "3", "path": "/val/n1/a, b.jpg", "total_steps_to_epsilon": "-1",
        "universal_difficulty_rank": "12", "outcome": "error",
    }  # fmt: skip


def test_the_first_step_at_or_below_a_threshold() -> None:
    losses = np.array([2.0, math.log(2), 0.5, 0.7, 0.1])
    assert first_steps(losses, [math.log(2)]) == [2]
    assert first_steps(losses, [0.5]) == [3]
    assert first_steps(losses, [0.05]) == [-1]
    assert first_steps(np.array([float(np.float32(math.log(2)))]), [math.log(2)]) == [-1]  # float32's ln 2 is above


@given(st.lists(st.floats(width=32), min_size=1), st.lists(st.floats(0, 1e30, exclude_min=True), min_size=1))
def test_all_thresholds_are_found_as_one_by_one(losses: list[float], thresholds: list[float]) -> None:
    expected = [
        next((step for step, loss in enumerate(losses, start=1) if loss <= threshold), NEVER)
        for threshold in thresholds
    ]
    assert first_steps(np.array(losses), thresholds) == expected


@given(st.lists(st.floats(width=32), min_size=1))
def test_a_step_log_reads_back_bit_for_bit(losses: list[float]) -> None:
    rows = list(csv.reader(io.StringIO(step_log_text(losses))))
    assert rows[0] == ["step", "loss"]
    assert [int(step) for step, _ in rows[1:]] == list(range(1, len(losses) + 1))
    assert [repr(float(loss)) for _, loss in rows[1:]] == [repr(loss) for loss in losses]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_reads_back_from_a_cell(cells: list[str]) -> None:
    if cells:
        assert list(csv.reader(io.StringIO(csv_text([cells]), newline=""))) == [cells]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/val/n1/a b,c.jpg", "example_3__val_n1_a b,c.jpg_steps.csv"),
        ("C:\\val\\a.jpg", "example_3_C__val_a.jpg_steps.csv"),
        ("a\nb\x00c\x7f.jpg", "example_3_a_b_c_.jpg_steps.csv"),
        ("../../etc/passwd", "example_3_.._.._etc_passwd_steps.csv"),
        ("žluť.jpg", "example_3_žluť.jpg_steps.csv"),
    ],
)
def test_a_step_logs_name(path: str, name: str) -> None:
    assert step_log_name(3, path) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(1, 300), st.integers(0, 10**6))
def test_a_step_logs_name_is_one_part_of_a_path_and_fits(path: str, times: int, index: int) -> None:
    name = step_log_name(index, path * times)
    assert len(name.encode()) <= 255
    assert not set(name) & set("/\\:\0\n")
    assert name.startswith(f"example_{index}_")
    assert name.endswith("_steps.csv")


def test_long_names_keep_their_end_and_stay_apart() -> None:
    names = {step_log_name(0, c + "x" * 400 + "/end.jpg") for c in "ab"}
    assert len(names) == 2
    assert all(name.endswith("_end.jpg_steps.csv") and len(name.encode()) == 255 for name in names)
