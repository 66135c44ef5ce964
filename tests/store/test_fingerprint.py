from pathlib import Path

import pytest

from lightning_app.errors import BadInputError
from lightning_app.store.fingerprint import require_same
from lightning_app.store.study_log import (
    FORMAT,
    EnvironmentLine,
    Line,
    StoredStudy,
    StudyLine,
    Target,
    example_line,
    line_bytes,
    parse_line,
)
from tests.store.studies import example, trajectory

IDENTITY: dict[str, object] = {"epsilon": 0.01, "optimizer": {"lr": 0.1, "name": "SGD"}, "sizes": [1, 2], "none": None}
HERE: dict[str, object] = {"torch": "2.6", "cpu_threads": 1}
THERE: dict[str, object] = {"torch": "2.7", "cpu_threads": 1}


def study(*environments: dict[str, object]) -> StoredStudy:
    """One with an example of each environment."""
    found = StoredStudy(Path("study.jsonl"))
    lines: list[Line] = [StudyLine(FORMAT, IDENTITY), Target(9, ((1, "any"),))]
    lines += [EnvironmentLine(number, there) for number, there in enumerate(environments or (HERE,), start=1)]
    lines += [example_line(trajectory(example(n), [2.0]), n) for n in range(1, 1 + len(environments))]
    for line in lines:
        found.take(line, 1)
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epsilon": 0.02}, "epsilon was 0.01, is 0.02."),
        ({"optimizer": {"lr": 0.2, "name": "SGD"}}, "optimizer.lr was 0.1, is 0.2."),
        ({"optimizer": {"name": "SGD"}}, 'optimizer.lr was 0.1, is "(absent)".'),
        ({"none": {"new": 3}}, 'none was null, is "(absent)"; none.new was "(absent)", is 3.'),
        ({"sizes": [1, 3]}, "sizes was [1, 2], is [1, 3]."),
    ],
)
def test_another_identity_is_refused_with_its_keys(change: dict[str, object], told: str) -> None:
    with pytest.raises(BadInputError, match="it has another identity") as error:
        require_same(study(), IDENTITY | change, HERE, mixed=True)
    assert f"it has another identity: {told}" in str(error.value)


def test_the_same_is_the_same_after_a_way_through_a_file() -> None:
    identity: dict[str, object] = {"epsilon": 0.5, "t": (1, 2), "n": float("nan")}
    found = study()
    found.lines = 0
    found.take(parse_line(line_bytes(StudyLine(FORMAT, identity))), 1)
    require_same(found, identity, dict(HERE), mixed=False)


@pytest.mark.parametrize(
    ("epsilon", "way"),
    [
        (0.05, "report FOLDER --epsilon 0.05 finds"),
        (0.001, "stopped at 0.01, so that a smaller"),
    ],
)
def test_another_epsilon_is_refused_with_the_way(epsilon: float, way: str) -> None:
    with pytest.raises(BadInputError) as error:
        require_same(study(), IDENTITY | {"epsilon": epsilon}, HERE, mixed=False)
    assert way in str(error.value)
    with pytest.raises(BadInputError) as error:  # not where something else differs too
        require_same(study(), {"epsilon": epsilon}, HERE, mixed=False)
    assert way not in str(error.value)


def test_another_environment_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(BadInputError, match=r'another environment: torch was "2.6", is "2.7"\..*--allow_mixed_env'):
        require_same(study(), IDENTITY, THERE, mixed=False)
    require_same(study(), IDENTITY, THERE, mixed=True)
    for environment in (HERE, THERE):
        with pytest.raises(BadInputError, match="another environment"):
            require_same(study(HERE, THERE), IDENTITY, environment, mixed=False)


def test_an_environment_without_an_example_left_is_forgotten() -> None:
    found = study(HERE, THERE)
    found.take(example_line(trajectory(example(1), [2.0]), 2), 1)  # trained again
    assert found.environments_in_use == [THERE]
    require_same(found, IDENTITY, THERE, mixed=False)
    assert study().environments_in_use == [HERE]  # where the next ones will be
