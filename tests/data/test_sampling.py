import hashlib
import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lightning_app.data.ranking import RankedPath
from lightning_app.data.sampling import draw_sample, in_training_order

PATHS = [RankedPath(f"/data/n{i:03}.jpg", i, i + 1) for i in range(300)]


def is_correct(entry: RankedPath) -> bool:
    return entry.place % 3 != 0


def draw(entries: list[RankedPath], n: int, seed: int = 42) -> list[str]:
    return [entry.path for entry in draw_sample(entries, seed, "wrong", is_correct, n)]


def test_the_draw_order_is_the_contracts() -> None:
    wrong = [entry.path for entry in PATHS if not is_correct(entry)]
    expected = sorted(wrong, key=lambda path: hashlib.sha256(f"42\n{path}".encode()).hexdigest())
    assert draw(PATHS, -1) == expected
    assert draw(PATHS, 10) == expected[:10]
    assert draw(PATHS, 10, seed=43) != expected[:10]


@given(st.integers(1, 60), st.sets(st.integers(0, 299)), st.randoms())
def test_a_sample_is_the_beginning_of_a_larger_one(n: int, missing: set[int], shuffler: random.Random) -> None:
    there = [entry for entry in PATHS if entry.place not in missing]
    shuffled = there[:]
    shuffler.shuffle(shuffled)
    assert draw(shuffled, n) == draw(there, 60)[:n]
    # A missing file leaves out itself and moves nobody else.
    assert draw(there, -1) == [path for path in draw(PATHS, -1) if int(path[7:10]) not in missing]


def test_select_takes_wrong_correct_or_all_and_never_drops_what_cannot_be_read() -> None:
    def answer(entry: RankedPath) -> bool | None:
        return None if entry.place == 5 else is_correct(entry)

    def places(select: str) -> set[int]:
        return {entry.place for entry in draw_sample(PATHS, 1, select, answer, -1)}  # type: ignore[arg-type]

    assert places("wrong") == {i for i in range(300) if i % 3 == 0} | {5}
    assert places("correct") == {i for i in range(300) if i % 3 != 0}
    assert places("all") == set(range(300))


def test_the_model_is_asked_only_until_the_sample_is_full() -> None:
    asked: list[str] = []

    def ask(entry: RankedPath) -> bool:
        asked.append(entry.path)
        return is_correct(entry)

    sample = draw_sample(PATHS, 42, "wrong", ask, 5)
    assert asked[-1] == sample[-1].path
    assert len(asked) < 60


def test_training_order_is_by_difficulty_with_ties_by_path() -> None:
    sample = [RankedPath("c", 0, 2), RankedPath("b", 1, 1.5), RankedPath("a", 2, 1.5)]
    examples = in_training_order(sample, {p: Path(p) for p in "abc"}, {"a": 0, "b": 1, "c": 2})
    rows = [(e.index, e.path, e.label, e.rank) for e in examples]
    assert rows == [
        (0, "a", 0, 1.5),
        (1, "b", 1, 1.5),
        (2, "c", 2, 2),
    ]
