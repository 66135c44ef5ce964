"""What somebody else has made: a few of the cases of `tests/hostile.py`, and attacks by name."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import hostile

CASES = 40
STORES = 200
"""A tenth of what `python -m tests.hostile 2000 --stores` tries."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images, a pool and a study with a report."""
    folder = tmp_path_factory.mktemp("good")
    hostile.make_good(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, CASES, 20))
def test_nothing_that_is_handed_over_ends_in_a_traceback_or_does_harm(good: Path, first: int) -> None:
    bad = [(words, said) for words, said, wrong in (hostile.attack(good, n) for n in range(first, first + 20)) if wrong]
    assert not bad


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, STORES, 50))
def test_a_log_that_was_changed_is_read_or_one_clear_error_and_nothing_is_written(good: Path, first: int) -> None:
    cases = (hostile.attack_store(good, n) for n in range(first, first + 50))
    assert not [(words, said) for words, said, wrong in cases if wrong]


def link(name: str) -> Callable[[Path, Path], None]:
    """Puts a link to the victim's folder, or its file, in the place of something."""

    def put(root: Path, victim: Path) -> None:
        place = root / hostile.STUDY / name
        target = victim if place.is_dir() else victim / "a.txt"
        hostile._clear(place)
        place.symlink_to(target)

    return put


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    "name", [".lock", ".writing", "single_example_results.csv", "step_logs", "run.json", "config.yaml", "tensorboard",
             "training_summary.json", "steps_vs_difficulty.png", "workers.json", "plan.json", "study.jsonl",
             "predictions-0.jsonl", ".study.jsonl.writing"]
)  # fmt: skip
def test_a_study_that_was_handed_over_leads_nowhere(good: Path, more: list[str], name: str) -> None:
    with hostile.working_copy(good) as root:
        victim = root.parent / "victim"
        link(name)(root, victim)
        before = hostile.snapshot(victim)
        said = hostile.call(["run", "--config", "run.yaml", *more])
        assert hostile.snapshot(victim) == before
        assert said.code == 2, said
        assert name in said.text


@pytest.mark.parametrize("name", ["correctness.npy", "tables", "tables/model.csv", "evaluate.json", "accuracy.csv"])
def test_a_pool_that_was_handed_over_leads_nowhere(good: Path, name: str) -> None:
    with hostile.working_copy(good) as root:
        victim = root.parent / "victim"
        place = root / hostile.POOL / name
        target = victim if place.is_dir() else victim / "a.txt"
        hostile._clear(place)
        place.symlink_to(target)
        before = hostile.snapshot(victim)
        said = hostile.call(list(hostile.COMMANDS["pool/evaluate.json"][0]))
        assert hostile.snapshot(victim) == before
        assert said.code == 2, said
        assert f"{hostile.POOL}/{name} is a link" in said.text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--trainer.devices", "1000000000"], "--trainer.devices must be a number of devices up to 1024"),
        (["run", "--trainer.devices", "1000"], "would be 1000 worker processes on a machine with"),
        (["run", "--root_dir", "a\0b"], "'a\\x00b' is no text in UTF-8, or holds a NUL character"),
        (["run", "--config", "nul.yaml"], "--root_dir must be text in UTF-8, without NUL characters, got 'a\\x00b'"),
        (["run", "--model_name", "local-dir:no/such"], "can't be loaded"),
        (["run", "--model_name", "a" * 5000], "aaaa... is too long for a file's name"),
        (["run", "--output_dir", "a" * 300], "aaaa... is too long for a file's name"),
        (["run", "--root_dir", "pets\udce9"], "'pets\\udce9' is no text in UTF-8"),
        (["run", "--seed", "12345678901234567890"], "--seed must be a number of at most 18 digits"),
        (["run", "--trainer", "pipe"], "--trainer: pipe can't be read as a file of flags: it is a pipe"),
        (["run", "--config", "pipe"], "--config: there is no file pipe"),
    ],
)
def test_what_cannot_be_is_one_clear_error(good: Path, argv: list[str], message: str) -> None:
    with hostile.working_copy(good):
        os.mkfifo("pipe")
        Path("nul.yaml").write_text('root_dir: "a\\0b"\n')
        said = hostile.call([argv[0], "--config", "run.yaml", *argv[1:], "--dry_run"])
        assert said.code == 2, said
        assert message in said.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pretrained_cfg": {"crop_pct": "nan"}}, "gives no transform of images"),
        ({"pretrained_cfg": {"crop_pct": float("nan")}}, "gives no transform of images"),
        ({"pretrained_cfg": {"interpolation": "psychic"}}, "gives no transform of images"),
        ({"pretrained_cfg": {"mean": [0.5]}}, ""),
        ({"pretrained_cfg": {"input_size": [3, 3, 3]}}, ""),
        ({"pretrained_cfg": {"input_size": "large"}}, ""),
        ({"model_args": {"no_such": 1}}, "can't be loaded"),
        ({"model_args": "none"}, "can't be loaded"),
        ({"num_classes": "three"}, "can't be loaded"),
        ({"architecture": "test_vit"}, "can't be loaded"),
        ({"label_names": {"a": 1}}, ""),
    ],
)
def test_a_models_configuration_that_has_no_meaning_is_one_clear_error(
    good: Path, change: dict[str, object], message: str
) -> None:
    with hostile.working_copy(good) as root:
        file = root / hostile.MODEL / "config.json"
        config = json.loads(file.read_text())
        for key, value in change.items():
            config[key] = {**config[key], **value} if key == "pretrained_cfg" and isinstance(value, dict) else value
        file.write_text(json.dumps(config))
        for argv in (["run", "--config", "run.yaml", "--dry_run"], list(hostile.COMMANDS["idx.json"][0])):
            said = hostile.call(argv)
            assert said.code in (0, 2), said
            assert said.code == 2 or not message
            assert message in said.text


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "more.bin"])
def test_a_pipe_in_a_models_folder_is_not_waited_for(good: Path, name: str) -> None:
    with hostile.working_copy(good) as root:
        hostile._clear(root / hostile.MODEL / name)
        os.mkfifo(root / hostile.MODEL / name)
        said = hostile.call(["run", "--config", "run.yaml", "--dry_run"])
        assert said.code == 2, said
        assert "regular file" in said.text
