import math
from pathlib import Path

import numpy as np
import pytest

from lightning_app import load_results
from lightning_app.analysis.closing import close
from lightning_app.analysis.reading import open_study
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
    ],
    ids=["seed", "mark and comma", "floats", "fewest", "more columns", "none reached", "one row", "constant"],
)
def test_tables_of_other_producers(text: str, steps: list[int]) -> None:
    file = table(text)
    frame = load_results(file)
    assert frame["steps"].tolist() == steps
    assert frame["study"].unique().tolist() == ["theirs"]
    assert math.isnan(frame["epsilon"][0])
    found = close(open_study(file))
    assert [line.name for line in found.lines] == ["epsilon"]
    assert found.at_epsilon.association.n == len(steps)
    assert math.isnan(found.at_epsilon.partial.value)
    assert found.at_epsilon.partial.why


def test_a_table_with_a_loss_that_is_not_finite_has_diverged() -> None:
    frame = load_results(table(SEED + "0,a,3,0.01,5\n1,b,-1,nan,9\n2,c,-1,0.5,11\n3,d,,,12\n"))
    assert frame["outcome"].tolist() == ["reached", "diverged", "censored", "error"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "theirs.csv, line 1: a table of results has the columns path, total_steps_to_epsilon"),
        ("a,b\n1,2\n", "missing: path, total_steps_to_epsilon, universal_difficulty_rank (it begins 'a,b"),
        (SEED, "theirs.csv has a header and no rows"),
        (SEED.strip() + ",path\n0,a,3,0.01,5,b\n", "theirs.csv, line 1: there are two columns 'path'"),
        (SEED + "0,a,3,0.01,5\n,b,3,0.01,5\n", "line 3: example_index is 'nan', expected a whole number from 0"),
        (SEED + "0,a,3,0.01\n", "line 2: 4 cells under a header of 5"),
        (SEED + "0,a,three,0.01,5\n", "line 2: total_steps_to_epsilon is 'three', expected a number"),
        (SEED + "0,a,3,0.01,5\n1,b,-2,0.01,5\n", "line 3: total_steps_to_epsilon is '-2.0', expected a count of steps"),
        (SEED + "0,a,2.5,0.01,5\n", "line 2: total_steps_to_epsilon is '2.5', expected a count of steps"),
        (SEED + "0,a,3,0.01,\n", "line 2: universal_difficulty_rank is 'nan', expected a number"),
        (SEED + "0,a,3,0.01,5\n1,a,4,0.01,6\n", "line 3: path is 'a', expected a path that is there once"),
        (SEED.strip() + ",outcome\n0,a,3,0.01,5,won\n", "line 2: outcome is 'won', expected one of reached"),
        (SEED.strip() + ",outcome\n0,a,-1,0.01,5,reached\n", "outcome is 'reached' with total_steps_to_epsilon -1"),
        (SEED + '0,"a\n', "theirs.csv, line 2: not CSV"),
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
