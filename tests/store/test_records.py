import contextlib
import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_app.csv_text import csv_text
from lightning_app.inputs.example import Example
from lightning_app.store.export import (
    COLUMNS,
    Row,
    UnreadableTableError,
    read_step_log,
    read_table,
    row_of,
    row_text,
    step_log_name,
    step_log_text,
    table_text,
)
from lightning_app.training.trajectory import Failure, Trajectory

EXAMPLE = Example(3, "/val/n1/a, b.jpg", Path("a.jpg"), 7, 12)
HEADER = (
    "example_index,path,total_steps_to_epsilon,final_loss,universal_difficulty_rank,outcome,label,predicted_before,"
    "initial_loss,steps_run,steps_to_correct,steps_to_ln2,steps_to_1e-1,steps_to_1e-2,steps_to_1e-3,steps_to_1e-4,"
    "steps_to_1e-5,steps_to_1e-6,total_loss_sum,weight_distance,seconds"
)


def trajectory(losses: list[float], outcome: str, example: Example = EXAMPLE) -> Trajectory:
    return Trajectory(example, outcome, losses, 2, -1, 0.1, 1.5)  # type: ignore[arg-type]


def test_the_columns_and_their_order() -> None:
    assert ",".join(COLUMNS) == HEADER


def test_a_reached_row() -> None:
    row = row_text(row_of(trajectory([2.0, math.log(2), 0.1, 0.0099], "reached"), 0.01))
    total = repr(math.fsum([2.0, math.log(2), 0.1, 0.0099]))
    assert row == f'3,"/val/n1/a, b.jpg",4,0.0099,12,reached,7,2,2.0,4,-1,2,3,4,,,,,{total},0.1,1.5\n'


def test_a_threshold_that_was_looked_for_and_not_met_is_minus_one() -> None:
    row = row_of(trajectory([2.0, 0.09], "censored"), 1e-3)
    assert row["total_steps_to_epsilon"] == -1
    assert [row[f"steps_to_{name}"] for name in ("ln2", "1e-1", "1e-2", "1e-3", "1e-4")] == [2, 2, -1, -1, None]


def test_an_epsilon_above_every_threshold_leaves_all_empty() -> None:
    row = row_of(trajectory([2.0, 0.8], "reached"), 0.9)
    assert {row[name] for name in COLUMNS if name.startswith("steps_to_") and name != "steps_to_correct"} == {None}


def test_a_diverged_row_writes_what_is_not_finite() -> None:
    result = Trajectory(EXAMPLE, "diverged", [2.0, math.nan], 2, -1, math.nan, 1.0)
    cells = next(csv.reader([row_text(row_of(result, 1e-6))]))
    row = dict(zip(COLUMNS, cells, strict=True))
    assert (row["final_loss"], row["weight_distance"], row["total_loss_sum"]) == ("nan", "nan", "nan")
    assert row["total_steps_to_epsilon"] == "-1"


def test_an_error_row_has_no_numbers() -> None:
    cells = next(csv.reader([row_text(row_of(Failure(EXAMPLE, "cut short"), 1e-6))]))
    row = {name: cell for name, cell in zip(COLUMNS, cells, strict=True) if cell}
    assert row == {
        "example_index": "3", "path": "/val/n1/a, b.jpg", "total_steps_to_epsilon": "-1",
        "universal_difficulty_rank": "12", "outcome": "error",
    }  # fmt: skip


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


PATHS = st.text(st.characters(exclude_categories=["Cs"]))
LOSSES = st.floats(width=32)


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Rows of any study: odd paths, odd ranks, losses that are not finite."""
    made = []
    for index, path in enumerate(draw(st.lists(PATHS, unique=True, max_size=5))):
        rank = draw(st.integers(1, 10**18) | st.floats(1, 1e300).filter(lambda rank: not rank.is_integer()))
        example = Example(index, path, Path(), draw(st.integers(0, 999)), rank)
        if draw(st.booleans()):
            made.append(row_of(Failure(example, "torn"), 0.1))
            continue
        outcome = draw(st.sampled_from(["reached", "censored", "diverged"]))
        finite = draw(st.lists(st.floats(0, width=32, allow_infinity=False), max_size=5))
        made.append(row_of(trajectory([*finite, draw(LOSSES)], outcome, example), 0.01))
    return made


@given(tables())
def test_a_table_reads_back_and_is_written_as_it_was(rows: list[Row]) -> None:
    data = table_text(rows).encode()
    table = read_table(data)
    assert (table_text(table.rows).encode(), table.torn) == (data, b"")
    assert [{key: repr(value) for key, value in row.items()} for row in table.rows] == [
        {key: repr(value) for key, value in row.items()} for row in rows
    ]


@given(tables(), st.data())
def test_a_table_that_is_cut_anywhere_has_its_whole_rows(rows: list[Row], data: st.DataObject) -> None:
    whole = table_text(rows).encode()
    header = len(table_text([]).encode())
    cut = data.draw(st.integers(header, len(whole)))
    table = read_table(whole[:cut])
    assert table_text(table.rows).encode() + table.torn == whole[:cut]
    assert table.rows == [] or len(table_text(rows[: len(table.rows)]).encode()) <= cut
    assert len(table_text(rows[: len(table.rows) + 1]).encode()) > cut or len(table.rows) == len(rows)


JUNK = st.binary(max_size=60) | st.text(st.sampled_from('0,"\n\r\0.-e'), max_size=60).map(str.encode)


@given(JUNK, st.integers(0, 3))
def test_any_bytes_are_a_table_or_a_clear_error(data: bytes, lines: int) -> None:
    rows = [row_of(trajectory([2.0], "reached", Example(n, str(n), Path(), 0, n)), 0.1) for n in range(lines)]
    with pytest.raises(UnreadableTableError, match=r"^line 1 is not the header"):
        read_table(data)
    for text in (table_text(rows).encode() + data, table_text(rows).encode() + data + b"\n" + data):
        with contextlib.suppress(UnreadableTableError):
            assert len(read_table(text).rows) == lines


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",reached,", ",won,", "line 3: there is no outcome 'won'"),
        (",reached,", ",reached", "line 3: it has 20 cells under a header of 21"),
        (",7,", ",7777777777777777777,", "line 3: label is '7777777777777777777'"),
        (",1.5\n", ",inf\n", "line 3: seconds is 'inf'"),
        (",1.5\n", ",-1\n", "line 3: seconds is '-1'"),
        (",2.0,", ",,", "line 3: final_loss is empty"),
        (",2.0,", ",two,", "line 3: final_loss is 'two' (without that row, its example is trained again)"),
        (",12,", ",nan,", "line 3: universal_difficulty_rank is 'nan'"),
        ("second", "third", "line 6: 'third' is there for the second time"),
        ("second", 'sec"ond', "line 3: it can't be read as CSV"),
        ("third", 'thi"rd', "line 6: its quotes don't end"),
    ],
)
def test_a_row_that_was_not_written_so_is_named(old: str, new: str, message: str) -> None:
    paths = ["first", "second", "a\nthird", "third"]
    rows = [row_of(trajectory([2.0], "reached", Example(n, path, Path(), 7, 12)), 0.1) for n, path in enumerate(paths)]
    text = [row_text(row) for row in rows]
    place = 3 if old == "third" else 1
    text[place] = text[place].replace(old, new, 1)
    if new == "third":
        text.insert(2, text.pop(1))
    with pytest.raises(UnreadableTableError) as error:
        read_table((table_text([]) + "".join(text) + text[0].replace("first", "last")).encode())
    assert message in str(error.value)


@given(st.lists(LOSSES, min_size=1))
def test_a_step_log_is_read_as_it_was_written(losses: list[float]) -> None:
    assert [repr(loss) for loss in read_step_log(step_log_text(losses).encode())] == [repr(loss) for loss in losses]


@given(st.text() | st.text().map(lambda text: f"step,loss\n{text}"))
def test_any_text_is_a_step_log_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(isinstance(loss, float) for loss in read_step_log(text.encode()))


@pytest.mark.parametrize("tail", [bytes(100), bytes(99) + b"\n", b"4,x,\xff\n", b'4,"x\ny'])
def test_what_a_power_cut_leaves_of_the_last_row_is_torn(tail: bytes) -> None:
    row = row_of(trajectory([2.0], "reached"), 0.1)
    table = read_table(table_text([row]).encode() + tail)
    assert (table.rows, table.torn) == ([row], tail)


def test_a_table_from_a_spreadsheet_is_told_by_its_line_ends() -> None:
    with pytest.raises(UnreadableTableError, match=r"it begins 'example_index,path.* \(its lines end in CR LF; "):
        read_table(table_text([]).replace("\n", "\r\n").encode())
    with pytest.raises(UnreadableTableError, match=r"line 1 is not the header .*: it begins ''$"):
        read_table(b"")
