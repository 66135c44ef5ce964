from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_app.inputs.example import Example
from lightning_app.parallel.leases import AHEAD, Leases


def examples(count: int) -> list[Example]:
    return [Example(i, f"{i}.jpg", Path(f"{i}.jpg"), 0, i + 1) for i in range(count)]


def paths(lease: list[Example]) -> list[str]:
    return [example.path for example in lease]


def test_a_worker_gets_the_easiest_and_a_few_ahead() -> None:
    leases = Leases(examples(100), 2, 3)
    assert paths(leases.hand_out(0, 1)) == [f"{i}.jpg" for i in range(1 + AHEAD)]
    assert paths(leases.hand_out(1, 1)) == [f"{i}.jpg" for i in range(5, 10)]
    assert leases.hand_out(0, 1) == []
    leases.is_over(0, "0.jpg")
    assert paths(leases.hand_out(0, 1)) == ["10.jpg"]


def test_when_few_are_left_nobody_holds_what_another_could_begin() -> None:
    leases = Leases(examples(3), 2, 3)
    assert len(leases.hand_out(0, 1)) == len(leases.hand_out(1, 1)) == 1
    assert leases.hand_out(0, 1) == []


def test_slots_share_what_is_there() -> None:
    leases = Leases(examples(40), 2, 3)
    assert len(leases.hand_out(0, 32)) == 20
    assert len(leases.hand_out(1, 32)) == 20


def test_examples_lost_with_their_worker_come_next_and_from_the_second_time_on_alone() -> None:
    leases = Leases(examples(20), 2, 3)
    leases.hand_out(0, 2)
    again, given_up = leases.is_lost(0, 2)
    assert (paths(again), given_up) == (["0.jpg", "1.jpg"], [])
    assert paths(leases.hand_out(0, 2))[:3] == ["0.jpg", "1.jpg", "2.jpg"]
    leases.is_over(0, "1.jpg")
    leases.is_lost(0, 1)
    assert paths(leases.hand_out(0, 2)) == ["0.jpg"]
    assert leases.hand_out(0, 2) == []  # nothing beside it
    leases.is_over(0, "0.jpg")
    assert paths(leases.hand_out(0, 2))[0] == "2.jpg"  # what it had not begun, in its old place


def test_the_only_retry_is_alone() -> None:
    leases = Leases(examples(20), 2, 1)
    leases.hand_out(0, 2)
    leases.is_lost(0, 2)
    assert paths(leases.hand_out(0, 2)) == ["0.jpg"]
    assert paths(leases.hand_out(1, 2)) == ["1.jpg"]


@pytest.mark.parametrize("max_retries", [0, 1, 3])
def test_an_example_that_takes_every_worker_with_it_is_given_up(max_retries: int) -> None:
    leases = Leases(examples(1), 1, max_retries)
    for _ in range(max_retries):
        assert len(leases.hand_out(0, 1)) == 1
        assert leases.is_lost(0, 1)[1] == []
    leases.hand_out(0, 1)
    again, given_up = leases.is_lost(0, 1)
    assert (again, paths(given_up)) == ([], ["0.jpg"])
    assert leases.waiting == leases.held == 0


def test_suspected_examples_wait_for_a_worker_that_has_proved_itself() -> None:
    leases = Leases(examples(1), 2, 1)
    leases.hand_out(0, 1)
    leases.is_lost(0, 1)
    assert leases.hand_out(0, 1, proven=False) == []
    assert paths(leases.hand_out(1, 1)) == ["0.jpg"]


def test_who_does_not_have_it_can_not_end_it() -> None:
    leases = Leases(examples(2), 2, 3)
    leases.hand_out(0, 1)
    with pytest.raises(KeyError):
        leases.is_over(1, "0.jpg")


@given(
    count=st.integers(0, 60),
    at_once=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    max_retries=st.integers(0, 3),
    dice=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=300),
)
def test_none_is_lost_and_none_is_twice(
    count: int, at_once: list[int], max_retries: int, dice: list[tuple[int, int]]
) -> None:
    workers = len(at_once)
    leases = Leases(examples(count), workers, max_retries)
    over: Counter[str] = Counter()
    lost: Counter[str] = Counter()

    def keep_at_work(worker: int) -> None:
        leases.hand_out(worker, at_once[worker])
        held = leases.held_by(worker)
        assert len(held) <= at_once[worker] + AHEAD
        if any(lost[path] > (max_retries > 1) for path in paths(held)):
            assert len(held) == 1  # a suspected one is alone

    for worker in range(workers):
        keep_at_work(worker)
    endings = iter(dice)
    while leases.held:
        drawn, dies = next(endings, (0, 0))
        busy = [worker for worker in range(workers) if leases.held_by(worker)]
        worker = busy[drawn % len(busy)]
        if dies > 6:
            held = paths(leases.held_by(worker))
            again, given_up = leases.is_lost(worker, at_once[worker])
            assert paths(again + given_up) == [p for p in held[: at_once[worker]] if p in paths(again + given_up)]
            lost.update(paths(again + given_up))
            over.update(paths(given_up))
            assert all(lost[path] == max_retries + 1 for path in paths(given_up))
        else:
            over[leases.is_over(worker, leases.held_by(worker)[0].path).path] += 1
        for each in range(workers):
            keep_at_work(each)
    assert leases.waiting == 0
    assert over == Counter(paths(examples(count)))
