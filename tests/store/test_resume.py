from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lightning_app.data.example import Example
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.store.resume import plan_resume
from lightning_app.store.study_log import StoredStudy, StudyLine, Target, example_line
from tests.store.studies import ENVIRONMENT, example, trajectory

LIMIT = 10


def one(rank: int) -> Example:
    return sample(rank)[0]


def sample(*ranks: int) -> list[Example]:
    return [example(index, f"{rank}.jpg", rank) for index, rank in enumerate(sorted(ranks))]


def reached(rank: int) -> Trajectory:
    return trajectory(one(rank), [2.0, 1.0, 0.3])


def censored(rank: int, steps: int) -> Trajectory:
    return trajectory(one(rank), [2.0] * steps)


def there(*results: Trajectory | Failure) -> StoredStudy:
    study = StoredStudy(Path("study.jsonl"), environments={1: ENVIRONMENT})
    study.take(StudyLine(3, {"epsilon": 0.5}), 1)
    study.take(Target(LIMIT, ((1, "any"),)), 1)
    for result in results:
        study.take(example_line(result, 1), 1)
    return study


def test_nothing_there_is_all_left() -> None:
    plan = plan_resume(sample(3, 1), None, LIMIT)
    assert (plan.left, plan.done, plan.coming) == (sample(1, 3), frozenset(), frozenset())


def test_what_is_done_is_kept_and_the_sample_is_numbered_beside_it() -> None:
    plan = plan_resume(sample(1, 4, 9), there(reached(9), trajectory(one(4), [2.0, float("nan")])), LIMIT)
    assert plan.done == {"4.jpg", "9.jpg"}
    assert [(each.path, each.index) for each in plan.left] == [("1.jpg", 0)]
    assert [each.index for each in plan.examples] == [0, 1, 2]


def test_errors_are_trained_again() -> None:
    plan = plan_resume(sample(1, 2), there(Failure(one(2), "torn"), reached(1)), LIMIT)
    assert (plan.done, plan.coming) == (frozenset({"1.jpg"}), frozenset({"2.jpg"}))
    assert plan.errors == ("2.jpg",)
    assert [each.path for each in plan.left] == ["2.jpg"]


def test_only_the_censored_are_trained_again_when_the_limit_is_larger() -> None:
    study = there(reached(1), censored(2, 5), censored(3, 10), trajectory(one(4), [2.0, float("inf")]))
    plan = plan_resume(sample(1, 2, 3, 4), study, LIMIT)
    assert plan.to_retrain == plan.coming == {"2.jpg"}
    assert [each.path for each in plan.left] == ["2.jpg"]


def test_what_is_outside_of_the_sample_stays_and_counts_in_the_numbers() -> None:
    plan = plan_resume(sample(3, 7), there(reached(5), censored(1, 3), Failure(one(9), "torn")), LIMIT)
    assert plan.out_of_sample == ("5.jpg", "1.jpg", "9.jpg")
    assert not plan.to_retrain
    assert not plan.errors
    assert [(each.path, each.index) for each in plan.examples] == [("3.jpg", 1), ("7.jpg", 3)]


@given(st.sets(st.integers(1, 30)), st.sets(st.integers(1, 30)))
def test_numbers_are_places_by_difficulty_over_all_that_is_there(drawn: set[int], done: set[int]) -> None:
    plan = plan_resume(sample(*drawn), there(*map(reached, done)), LIMIT)
    places = {f"{rank}.jpg": place for place, rank in enumerate(sorted(drawn | done))}
    assert {each.path: each.index for each in plan.examples} == {f"{rank}.jpg": places[f"{rank}.jpg"] for rank in drawn}
    assert {each.path for each in plan.left} == {f"{rank}.jpg" for rank in drawn - done}
    assert set(plan.out_of_sample) == {f"{rank}.jpg" for rank in done - drawn}
