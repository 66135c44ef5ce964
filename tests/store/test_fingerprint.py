import contextlib
import copy
import json
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import lightning
import numpy
import PIL
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_app import __version__
from lightning_app.errors import BadInputError
from lightning_app.store import fingerprint as module
from lightning_app.store.fingerprint import Fingerprint, Goal, Shard, Stretch, read_fingerprint, require_same

IDENTITY: dict[str, object] = {"epsilon": 0.01, "optimizer": {"lr": 0.1, "name": "SGD"}, "sizes": [1, 2], "none": None}
HERE: dict[str, object] = {"torch": "2.6", "cpu_threads": 1}
THERE: dict[str, object] = {"torch": "2.7", "cpu_threads": 1}


def fingerprint(*stretches: Stretch) -> Fingerprint:
    return Fingerprint(IDENTITY, stretches or (Stretch(HERE),), Goal(5, 100, ("a",), Shard(2, 3, 15, "abc")))


def test_it_reads_back() -> None:
    for one in (fingerprint(), fingerprint(Stretch(HERE, ("a", "ž")), Stretch(THERE))):
        assert read_fingerprint(one.text()) == one


KEYS = st.sampled_from(["format", "identity", "stretches", "goal", "environment", "paths", "examples"])
JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)
)


@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_one_or_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_fingerprint(text)


def places(value: object, way: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """The way to every value inside of one."""
    yield way
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*way, key))


WHOLE = json.loads(fingerprint(Stretch(HERE, ("a",)), Stretch(THERE)).text())


@given(st.sampled_from(list(places(WHOLE))[1:]), JSON)
def test_with_any_value_in_any_place_it_is_one_or_a_value_error(way: tuple[Any, ...], value: object) -> None:
    content = copy.deepcopy(WHOLE)
    holder = content
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = value
    try:
        found = read_fingerprint(json.dumps(content))
    except ValueError:
        return
    assert read_fingerprint(found.text()).text() == found.text()
    found.without("a").went_on(HERE, ["a", "b"])
    assert frozenset(found.goal.beyond) >= frozenset()
    with contextlib.suppress(BadInputError):
        require_same(found, IDENTITY, HERE, mixed=False)


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
        require_same(fingerprint(), IDENTITY | change, HERE, mixed=True)
    assert f"it has another identity: {told}" in str(error.value)


def test_the_same_is_the_same_after_a_way_through_a_file() -> None:
    found = read_fingerprint(Fingerprint({"t": (1, 2), "n": float("nan")}, (Stretch(HERE),), Goal(1, 1)).text())
    require_same(found, {"t": (1, 2), "n": float("nan")}, dict(HERE), mixed=False)


@pytest.mark.parametrize(
    ("epsilon", "way"),
    [
        (0.05, "report FOLDER --epsilon 0.05 reads it"),
        (0.001, "stopped at 0.01, so that a smaller"),
    ],
)
def test_another_epsilon_is_refused_with_the_way(epsilon: float, way: str) -> None:
    with pytest.raises(BadInputError) as error:
        require_same(fingerprint(), IDENTITY | {"epsilon": epsilon}, HERE, mixed=False)
    assert way in str(error.value)
    with pytest.raises(BadInputError) as error:  # not where something else differs too
        require_same(fingerprint(), {"epsilon": epsilon}, HERE, mixed=False)
    assert way not in str(error.value)


def test_another_environment_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(BadInputError, match=r'another environment: torch was "2.6", is "2.7"\..*--allow_mixed_env'):
        require_same(fingerprint(), IDENTITY, THERE, mixed=False)
    require_same(fingerprint(), IDENTITY, THERE, mixed=True)
    mixed = fingerprint(Stretch(HERE, ("a",)), Stretch(THERE))
    for environment in (HERE, THERE):
        with pytest.raises(BadInputError, match="another environment"):
            require_same(mixed, IDENTITY, environment, mixed=False)


def test_each_row_is_of_the_environment_that_it_was_made_in() -> None:
    one = fingerprint()
    assert one.went_on(HERE, ["a", "b"]) == (Stretch(HERE),)
    two = Fingerprint(IDENTITY, one.went_on(THERE, ["b", "a"]), one.goal)
    assert two.stretches == (Stretch(HERE, ("a", "b")), Stretch(THERE))
    # c was made there; b isn't there any more.
    assert two.went_on(THERE, ["a", "c"]) == (Stretch(HERE, ("a",)), Stretch(THERE))
    assert two.went_on(HERE, ["a", "c"]) == (Stretch(THERE, ("c",)), Stretch(HERE))
    assert two.went_on({"torch": "3"}, ["c"]) == (Stretch(THERE, ("c",)), Stretch({"torch": "3"}))


def test_rows_that_were_made_elsewhere_join_their_stretch() -> None:
    one = fingerprint(Stretch(THERE, ("a",)), Stretch(HERE))
    made: list[tuple[dict[str, object], str]] = [(THERE, "b"), (HERE, "c"), ({"torch": "3"}, "d")]
    assert one.with_rows_of(made).stretches == (
        Stretch(THERE, ("a", "b")), Stretch({"torch": "3"}, ("d",)), Stretch(HERE),
    )  # fmt: skip
    assert one.with_rows_of([]) == one


def test_an_example_that_is_trained_again_is_of_the_last_stretch() -> None:
    one = fingerprint(Stretch(HERE, ("a", "b")), Stretch(THERE))
    assert one.without("a").stretches == (Stretch(HERE, ("b",)), Stretch(THERE))
    assert one.without("a").without("b").stretches == (Stretch(THERE),)
    assert one.without("c") == one


def test_a_package_whose_distribution_is_not_found_is_asked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing_is_installed(distribution: str) -> str:
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(module, "version", nothing_is_installed)
    monkeypatch.setitem(sys.modules, "torchvision", None)  # as if it weren't there
    monkeypatch.delattr("timm.__version__")
    assert module.versions() == {
        "python": platform.python_version(), "steps-to-epsilon": __version__, "torch": torch.__version__,
        "torchvision": "unknown", "timm": "unknown", "lightning": lightning.__version__,
        "pillow": PIL.__version__, "numpy": numpy.__version__,
    }  # fmt: skip


def test_the_versions_are_those_of_the_distributions() -> None:
    found = module.versions()
    assert list(found)[:2] == ["python", "steps-to-epsilon"]
    assert found["pillow"] == version("pillow")
