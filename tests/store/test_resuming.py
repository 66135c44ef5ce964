from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lightning_app.inputs.example import Example
from lightning_app.store.export import Row, index_of, path_of, row_of
from lightning_app.store.resume import in_number_order, take_stock
from lightning_app.training.trajectory import Failure, Outcome, Trajectory

LIMIT = 10


def sample(*ranks: int) -> list[Example]:
    return [Example(index, f"{rank}.jpg", Path(), 0, rank) for index, rank in enumerate(sorted(ranks))]


def row(rank: int, outcome: Outcome = "reached", steps: int = 3, index: int = 0) -> Row:
    example = Example(index, f"{rank}.jpg", Path(), 0, rank)
    if outcome == "error":
        return row_of(Failure(example, "torn"), 0.1)
    return row_of(Trajectory(example, outcome, [1.0] * steps, 0, -1, 0.1, 0.1), 0.1)


def test_nothing_there_is_all_left() -> None:
    stock = take_stock(sample(3, 1), [], (), LIMIT)
    assert (stock.left, stock.rows, stock.done) == (sample(1, 3), [], frozenset())


def test_what_is_done_is_kept_and_renumbered() -> None:
    stock = take_stock(sample(1, 4, 9), [row(9, index=1), row(4, "diverged")], {"9.jpg", "4.jpg"}, LIMIT)
    assert [(r["path"], r["example_index"]) for r in stock.rows] == [("9.jpg", 2), ("4.jpg", 1)]
    assert [example.path for example in stock.left] == ["1.jpg"]
    assert [r["example_index"] for r in in_number_order(stock.rows)] == [1, 2]


def test_errors_and_rows_without_a_log_are_trained_again() -> None:
    stock = take_stock(sample(1, 2, 3), [row(1), row(2, "error"), row(3)], {"3.jpg"}, LIMIT)
    assert stock.done == {"3.jpg"}
    assert stock.dropped == ("1.jpg", "2.jpg")


def test_only_the_censored_are_trained_again_when_the_limit_is_larger() -> None:
    rows = [row(1, steps=5), row(2, "censored", 5), row(3, "censored", 10), row(4, "diverged", 5)]
    stock = take_stock(sample(1, 2, 3, 4), rows, {path_of(r) for r in rows}, LIMIT)
    assert stock.again == {"2.jpg"}
    assert [example.path for example in stock.left] == ["2.jpg"]
    assert len(stock.rows) == 4  # it stays until then


def test_rows_outside_of_the_sample_stay_and_have_numbers_too() -> None:
    rows = [row(5), row(1, "censored", 3)]
    stock = take_stock(sample(3, 7), rows, {path_of(r) for r in rows}, LIMIT)
    assert stock.beyond == ("5.jpg", "1.jpg")
    assert not stock.again
    assert {path_of(r): r["example_index"] for r in stock.rows} == {"1.jpg": 0, "5.jpg": 2}
    assert [(example.path, example.index) for example in stock.examples] == [("3.jpg", 1), ("7.jpg", 3)]


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_numbers_are_places_by_difficulty_over_all_that_is_there(drawn: set[int], done: set[int]) -> None:
    stock = take_stock(sample(*drawn), [row(rank) for rank in done], {f"{rank}.jpg" for rank in done}, LIMIT)
    places = {f"{rank}.jpg": place for place, rank in enumerate(sorted(drawn | done))}
    numbers = {example.path: example.index for example in stock.examples}
    assert numbers == {f"{rank}.jpg": places[f"{rank}.jpg"] for rank in drawn}
    numbers = {path_of(row): index_of(row) for row in stock.rows}
    assert numbers == {f"{rank}.jpg": places[f"{rank}.jpg"] for rank in done}
    assert {example.path for example in stock.left} == {f"{rank}.jpg" for rank in drawn - done}
    assert set(stock.beyond) == {f"{rank}.jpg" for rank in done - drawn}
