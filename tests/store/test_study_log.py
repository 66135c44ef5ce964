import base64
import contextlib
import copy
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_app.data.example import Example
from lightning_app.data.trajectory import Failure
from lightning_app.files import OutsideError
from lightning_app.store.export import rows_of, table_text
from lightning_app.store.study_log import (
    FORMAT,
    STORE,
    CommandLine,
    EnvironmentLine,
    ExampleLine,
    Line,
    Shard,
    StoredStudy,
    StudyLine,
    Target,
    example_line,
    line_bytes,
    parse_line,
    read_study,
)
from tests.store.studies import ENVIRONMENT, EPSILON, example, trajectory

CURVES = {"a,\n.jpg": [2.0, 0.3], "ž.jpg": [2.0, 1.0, 0.9], "c.jpg": [2.0, math.inf], "d.jpg": [math.nan]}
LINES: list[Line] = [
    StudyLine(FORMAT, {"epsilon": EPSILON, "optimizer": {"lr": 0.1}}),
    EnvironmentLine(1, ENVIRONMENT),
    Target(3, tuple((n + 1, path) for n, path in enumerate((*CURVES, "e.jpg", "f.jpg"))), Shard(2, 3, 15, "abc")),
    CommandLine("lr: 0.1\n", {"model_name": "tiny", "root_dir": None}, {"ranked": 7}, {"reliability": math.nan}),
    *(example_line(trajectory(example(n, path), losses), 1) for n, (path, losses) in enumerate(CURVES.items())),
    example_line(Failure(example(4, "e.jpg"), "torn"), 0),
]


def write(folder: Path, lines: list[Line] | None = None, tail: bytes = b"") -> bytes:
    data = b"".join(map(line_bytes, LINES if lines is None else lines)) + tail
    (folder / STORE).write_bytes(data)
    return data


def read(folder: Path) -> StoredStudy:
    study = read_study(folder)
    assert study is not None
    return study


def test_a_study_reads_back(tmp_path: Path) -> None:
    size = len(write(tmp_path))
    study = read(tmp_path)
    assert (study.identity, study.environments) == ({"epsilon": EPSILON, "optimizer": {"lr": 0.1}}, {1: ENVIRONMENT})
    assert (study.target, study.command.config) == (LINES[2], "lr: 0.1\n")
    assert (study.size, study.lines, study.torn, study.trained_for, study.left) == (size, len(LINES), 0, 3, 1)
    assert list(study.examples) == [*CURVES, "e.jpg"]
    for path, losses in CURVES.items():
        rounded = [struct.unpack("<f", struct.pack("<f", loss))[0] for loss in losses]
        assert list(map(repr, study.losses_of(path).tolist())) == list(map(repr, rounded))
        assert repr(study.examples[path].final_loss) == repr(rounded[-1])
    assert study.examples["e.jpg"].line.reason == "torn"


def test_every_line_is_one_line_of_json(tmp_path: Path) -> None:
    lines = write(tmp_path).decode().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds == ["study", "environment", "target", "command", *["example"] * 5]
    content = json.loads(lines[4])
    assert content["losses"] == base64.b64encode(struct.pack("<2f", 2.0, 0.3)).decode()
    assert (content["path"], content["rank"], content["outcome"], content["steps"]) == ("a,\n.jpg", 1, "reached", 2)
    assert {"reason", "path", "rank", "outcome", "label", "kind"} == {*json.loads(lines[8])}


def test_the_last_line_of_a_path_stands(tmp_path: Path) -> None:
    again = example_line(trajectory(example(1, "ž.jpg"), [2.0, 1.0, 0.9, 0.4]), 1)
    repaired = example_line(trajectory(example(4, "e.jpg"), [0.1]), 1)
    write(tmp_path, [*LINES, again, repaired])
    study = read(tmp_path)
    assert list(study.examples) == ["a,\n.jpg", "c.jpg", "d.jpg", "ž.jpg", "e.jpg"]
    assert (study.examples["ž.jpg"].line.outcome, len(study.losses_of("ž.jpg"))) == ("reached", 4)
    assert study.examples["e.jpg"].line.outcome == "reached"


def test_a_line_that_a_person_wrote_is_read_too(tmp_path: Path) -> None:
    lines = [json.loads(line_bytes(line)) for line in LINES]
    text = "".join(json.dumps(line, indent=None, sort_keys=True) + "\n" for line in lines)
    (tmp_path / STORE).write_text(text)
    assert table_text(row for row, _ in rows_of(read(tmp_path))).count("\n") == 7


def test_what_is_not_there_or_has_not_begun_is_none(tmp_path: Path) -> None:
    assert read_study(tmp_path) is None
    for count in (0, 1, 2):
        write(tmp_path, LINES[:count], b'{"kind":"study","for')
        assert read_study(tmp_path) is None
    write(tmp_path, LINES[:3])
    assert read(tmp_path).left == 6


def test_a_store_that_is_cut_anywhere_has_its_whole_lines(tmp_path: Path) -> None:
    data = write(tmp_path)
    ends = [0]
    for line in data.splitlines(keepends=True):
        ends.append(ends[-1] + len(line))
    for cut in range(len(data) + 1):
        (tmp_path / STORE).write_bytes(data[:cut])
        study = read_study(tmp_path)
        whole = sum(end <= cut for end in ends) - 1
        if study is None:
            assert whole < 3
            continue
        assert (study.lines, study.torn) == (whole, cut - ends[whole])
        assert len(list(rows_of(study))) == max(0, whole - 4)


@pytest.mark.parametrize(
    ("number", "change", "message"),
    [
        (1, {"format": 4}, "line 1: it has format 4, this version reads 3: it is of a newer steps-to-epsilon"),
        (1, {"format": 2}, "line 1: it has format 2, this version reads 3"),
        (1, {"identity": {}}, "line 1: its epsilon is 'None', no loss to reach"),
        (1, {"identity": {"epsilon": True}}, "line 1: its epsilon is 'True'"),
        (1, {"kind": "environment", "number": 1, "environment": {}}, "line 1: the first line, and no other"),
        (2, {"kind": "weather"}, "line 2: it has another form: Invalid value 'weather'"),
        (2, {"number": 2}, "line 2: it is of environment 2, and 1 comes next"),
        (3, {"examples": []}, "line 3: its sample is empty"),
        (3, {"examples": [[1, "a"], [2, "a"]]}, "line 3: its sample is empty or names an example twice"),
        (3, {"max_steps_per_example": 10**15}, "line 3: it has another form"),
        (5, {"path": None}, "line 5: it has another form: Expected `str`, got `null` - at `$.path`"),
        (5, {"outcome": "won"}, "line 5: it has another form: Invalid enum value 'won'"),
        (5, {"outcome": "censored"}, "line 5: its outcome is 'censored', and its losses say otherwise"),
        (6, {"outcome": "reached"}, "line 6: its outcome is 'reached', and its losses say otherwise"),
        (7, {"outcome": "censored"}, "line 7: its outcome is 'censored', and its losses say otherwise"),
        (6, {"outcome": "error"}, "line 6: its losses are 16 characters"),
        (5, {"environment": 7}, "line 5: it names environment 7, which no line before it describes"),
        (5, {"seconds": None}, "line 5: it is of a trained example, and a number is missing"),
        (5, {"seconds": -1}, "line 5: it has another form: Expected `float` >= 0.0"),
        (5, {"rank": 10**400}, "line 5: it has another form: Expected `int` <= "),
        (5, {"rank": 10**18 + 1}, "line 5: it has another form: Expected `int` <= "),
        (5, {"rank": "1"}, "line 5: it has another form: Expected `int | float`"),
        (5, {"steps": 3}, "line 5: its losses are 12 characters, which are not those of 3 steps"),
        (6, {"steps": 2}, "line 6: its losses are 16 characters, which are not those of 2 steps"),
        (6, {"losses": "AAAAAAAAAAAAAAA!"}, "line 6: its losses are not base64"),
        (6, {"losses": "!AAAAAAAAAAAAAAA"}, "line 6: its losses are not base64"),
        (6, {"losses": "AAAAAAAAAAAAAAA="}, "line 6: its losses are"),
    ],
)
def test_a_line_that_was_not_written_so_is_named(
    tmp_path: Path, number: int, change: dict[str, object], message: str
) -> None:
    lines = write(tmp_path).splitlines()
    lines[number - 1] = json.dumps({**json.loads(lines[number - 1]), **change}, separators=(",", ":")).encode()
    (tmp_path / STORE).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(OutsideError) as error:
        list(rows_of(read(tmp_path)))
    assert f"{STORE}, {message}" in str(error.value)


def test_losses_go_on_until_the_end_and_no_further(tmp_path: Path) -> None:
    for losses in ([0.3, 2.0, 0.3], [math.inf, 0.3], [math.inf, -math.inf]):
        line = example_line(trajectory(example(0), losses), 1)
        write(tmp_path, [*LINES[:4], line])
        with pytest.raises(OutsideError, match=r"line 5: its outcome is '.*', and its losses say otherwise"):
            read(tmp_path).losses_of("0.jpg")


@pytest.mark.parametrize("text", [b"my notes", b'{"kind":"diary","x":', b"\0\0x"])
def test_what_is_no_log_of_ours_is_not_taken_for_a_torn_one(tmp_path: Path, text: bytes) -> None:
    (tmp_path / STORE).write_bytes(text)
    with pytest.raises(OutsideError, match=f"{STORE}, line 1: it is of something else"):
        read_study(tmp_path)


def test_an_error_needs_an_environment_to_stand_in_too(tmp_path: Path) -> None:
    write(tmp_path, [LINES[0], *LINES[2:4], LINES[-1]])
    with pytest.raises(
        OutsideError, match="line 4: it is of an example, before lines say what the sample is and where"
    ):
        read_study(tmp_path)


def test_a_line_in_the_middle_that_is_none_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, tail=b"{}\n" + line_bytes(LINES[4]))
    with pytest.raises(OutsideError, match=rf"{STORE}, line 10: it has another form"):
        read_study(tmp_path)
    write(tmp_path, tail=b'{"kind":"example","path":\n' + line_bytes(LINES[4]))
    with pytest.raises(OutsideError, match=rf"{STORE}, line 10: it is not JSON: "):
        read_study(tmp_path)


def test_a_store_that_is_replaced_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    study = read(tmp_path)
    (tmp_path / STORE).write_bytes(b" " * 5000)
    with pytest.raises(OutsideError):
        study.losses_of("ž.jpg")
    write(tmp_path, [*LINES[:4], *LINES[5:], LINES[4]])
    with pytest.raises(OutsideError):
        study.losses_of("ž.jpg")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["kind", "path", "x"]), inner),
)


def places(value: object, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside of one."""
    yield way
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*way, key))


WHOLE = [json.loads(line_bytes(line)) for line in LINES]


@given(st.sampled_from(list(places(WHOLE))[1:]), JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_with_any_value_in_any_place_it_is_a_study_or_a_clear_error(
    tmp_path: Path, way: tuple[Any, ...], value: object
) -> None:
    content = copy.deepcopy(WHOLE)
    holder: Any = content
    for key in way[:-1]:
        holder = holder[key]
    holder[way[-1]] = value
    (tmp_path / STORE).write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in content))
    with contextlib.suppress(OutsideError):
        study = read_study(tmp_path)
        if study is not None:
            table_text(row for row, _ in rows_of(study))


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_are_no_study_or_a_clear_error(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / STORE).write_bytes(junk)
    with contextlib.suppress(OutsideError):
        assert read_study(tmp_path) is None


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(1, 10**12) | st.floats(1, 1e300),
    st.lists(st.floats(0.5, 2.0**100, exclude_min=True, width=32), max_size=20),
    st.sampled_from([0.25, math.nan, math.inf, 2.0]),
    st.floats(0) | st.just(math.nan),
)
def test_any_example_reads_back(path: str, rank: float, losses: list[float], last: float, distance: float) -> None:
    one = trajectory(Example(0, path, Path(), 3, rank), [*losses, last])
    line = example_line(one, 1)
    text = line_bytes(line)
    assert text.count(b"\n") == 1
    found = parse_line(text)
    assert isinstance(found, ExampleLine)
    assert (found.path, found.rank, found.losses) == (path, rank, line.losses)
    assert type(found.rank) is type(rank)
    distant = parse_line(line_bytes(example_line(one.__class__(**{**vars(one), "weight_distance": distance}), 1)))
    assert isinstance(distant, ExampleLine)
    assert distant.weight_distance is not None
    assert repr(float(distant.weight_distance)) == repr(distance)
