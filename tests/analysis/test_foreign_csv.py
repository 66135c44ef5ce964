import math
from pathlib import Path

import numpy as np
import pytest

from lightning_app import load_results
from lightning_app.analysis.load import open_study
from lightning_app.analysis.summary import summarize
from lightning_app.errors import BadInputError

SEED = "example_index,path,total_steps_to_epsilon,final_loss,universal_difficulty_rank\n"


def table(text: str, name: str = "theirs.csv") -> Path:
    file = Path(name)
    file.write_bytes(text.encode())
    return file


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (SEED + "0,a,3,0.01,5\n1,b,-1,0.5,9\n2,c,8,0.01,12\n", [3, 9, 8]),
        ("\ufeff" + SEED + '0,"a,b",3,0.01,5\r\n1,b,-1,0.5,9\r\n', [3, 4]),
        (SEED + "0,a,3.0,0.01,5\n\n1,b,-1.0,nan,9", [3, 4]),
        ("path,universal_difficulty_rank,total_steps_to_epsilon\na,5.5,3\nb,6,2\n", [3, 2]),
        (
            SEED.strip() + ",total_loss_sum,weight_distance,comment\n0,a,3,0.01,5,1.5,,x\n1,b,4,0.1,7,2.5,0.3,7\n",
            [3, 4],
        ),
        (SEED + "0,a,-1,0.5,5\n1,b,-1,0.5,6\n", [2, 2]),
        (SEED + "0,a,7,0.5,5\n", [7]),
        (SEED + "0,a,7,0.5,5\n1,b,7,0.5,6\n2,c,7,0.5,7\n3,d,7,0.5,8\n", [7, 7, 7, 7]),
        ("\ufeffsep=,\r\n" + SEED + "0,a,7,0.5,5\r\n", [7]),
        (SEED.strip() + "\r0,a,3,0.01,5\r1,b,-1,0.5,9\r2,c,8,0.01,12\r", [3, 9, 8]),
    ],
    ids=[
        "seed",
        "mark and comma",
        "floats",
        "fewest",
        "more columns",
        "none reached",
        "one row",
        "constant",
        "Excel's first line",
        "carriage returns",
    ],
)
def test_tables_of_other_producers(text: str, steps: list[int]) -> None:
    file = table(text)
    frame = load_results(file)
    assert frame["steps"].tolist() == steps
    assert frame["study"].unique().tolist() == ["theirs"]
    assert math.isnan(frame["epsilon"][0])
    found = summarize(open_study(file))
    assert [line.name for line in found.lines] == ["epsilon"]
    assert found.at_epsilon.association.n == len(steps)
    assert math.isnan(found.at_epsilon.partial.value)
    assert found.at_epsilon.partial.why


def test_a_table_with_a_loss_that_is_not_finite_has_diverged_and_one_without_a_loss_has_not() -> None:
    rows = "0,a,3,0.01,5\n1,b,-1,nan,9\n2,c,-1,0.5,11\n4,e,-1,,13\n5,f,-1,inf,14\n6,g,-1,None,15\n"
    frame = load_results(table(SEED + rows))
    outcomes = ["reached", "diverged", "censored", "censored", "diverged", "censored"]
    assert frame["outcome"].tolist() == outcomes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "theirs.csv, line 1: a table of results has the columns path, total_steps_to_epsilon"),
        ("a,b\n1,2\n", "missing: path, total_steps_to_epsilon, universal_difficulty_rank (it begins 'a,b"),
        (SEED, "theirs.csv has a header and no rows"),
        (SEED.strip() + ",path\n0,a,3,0.01,5,b\n", "theirs.csv, line 1: there are two columns 'path'"),
        (SEED + "0,a,3,0.01,5\n,b,3,0.01,5\n", "line 3: example_index is nan, expected a whole number"),
        (SEED + "0,a,3,0.01\n", "line 2: 4 cells under a header of 5"),
        (SEED + "0,a,three,0.01,5\n", "line 2: total_steps_to_epsilon is 'three', expected a number"),
        (
            SEED + "0,a,3,0.01,5\n1,b,-2,0.01,5\n",
            "line 3: total_steps_to_epsilon is -2, expected a whole number, or -1 for never reached",
        ),
        (SEED + "0,a,2.5,0.01,5\n", "line 2: total_steps_to_epsilon is 2.5, expected a whole number"),
        (SEED + "0,a,3,0.01,\n", "line 2: universal_difficulty_rank is nan, expected a number"),
        (SEED + "0,a,3,0.01,5\n1,a,4,0.01,6\n", "line 3: path is 'a', expected a path that is there once"),
        (SEED.strip() + ",outcome\n0,a,3,0.01,5,won\n", "line 2: outcome is 'won', expected one of reached"),
        (
            SEED.strip() + ",outcome\n0,a,-1,0.01,5,reached\n",
            "outcome is 'reached', expected what total_steps_to_epsilon says",
        ),
        (
            SEED + "0,a,,0.01,5\n",
            "line 2: total_steps_to_epsilon is nan, expected a whole number, or -1 for never reached",
        ),
        (SEED + "0,,3,0.01,5\n", "line 2: path is '', expected a path that is there once"),
        (SEED + '0,"a\n', "theirs.csv, line 2: not CSV"),
        (SEED + "1,a,3,0.01,5\n1,b,3,0.01,6\n", "line 3: example_index is 1, expected a number that is there once"),
        (SEED.strip() + ",steps_run\n0,a,-1,0.5,5,-5\n", "line 2: steps_run is -5, expected a whole number"),
        (SEED.strip() + ",steps_run\n0,a,-1,0.5,5,inf\n", "line 2: steps_run is inf, expected a whole number"),
        (SEED.strip() + ",steps_run\n0,a,-1,0.5,5,1e300\n", "line 2: steps_run is 1e+300, expected a whole number"),
        (SEED.strip() + ",label\n0,a,-1,0.5,5,2.5\n", "line 2: label is 2.5, expected a whole number"),
        (
            SEED.strip() + ",steps_to_1e-1\n0,a,-1,0.5,5,-7\n",
            "line 2: steps_to_1e-1 is -7, expected a whole number, or",
        ),
    ],
)
def test_bad_tables_are_told_with_line_and_column(text: str, message: str) -> None:
    with pytest.raises(BadInputError) as error:
        open_study(table(text))
    assert message in str(error.value)


def test_numbers_are_read_to_the_last_bit() -> None:
    losses = np.random.default_rng(0).random(50) * 1e-7
    rows = "".join(f"{k},p{k},3,{loss!r},{k}\n" for k, loss in enumerate(losses.tolist()))
    assert load_results(table(SEED + rows))["final_loss"].tolist() == losses.tolist()


def test_a_limit_that_a_table_does_not_say_is_not_made_up() -> None:
    unknown = summarize(open_study(table(SEED + "".join(f"{k},p{k},{-1 if k > 6 else k},0.1,{k}\n" for k in range(9)))))
    assert (unknown.limit, unknown.says_limit) == (6, False)
    assert unknown.as_dict()["limit"] is None
    header = SEED.strip() + ",steps_run\n"
    known = summarize(open_study(table(header + "0,a,3,0.01,5,3\n1,b,-1,0.5,6,80\n2,c,-1,0.5,7,90\n")))
    assert (known.limit, known.says_limit) == (80, True)


def test_the_order_of_the_rows_says_nothing() -> None:
    rows = [f"{k},p{k},{(7 * k) % 11},0.01,{k % 5}\n" for k in range(40)]
    first, last = (summarize(open_study(table(SEED + "".join(each)))) for each in (rows, rows[::-1]))
    assert first.at_epsilon.association == last.at_epsilon.association
    assert [fifth.median_steps for fifth in first.quintiles] == [fifth.median_steps for fifth in last.quintiles]
