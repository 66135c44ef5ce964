import math
from pathlib import Path
from typing import Any

import pytest

from lightning_app.errors import BadInputError
from lightning_app.settings import EvaluationSettings, PlanSettings, StudySettings, ValidationSettings


def test_the_defaults_are_the_contracts() -> None:
    settings = StudySettings()
    assert settings.model_name == "efficientvit_b0.r224_in1k"
    assert (settings.epsilon, settings.max_examples, settings.max_steps_per_example, settings.lr) == (
        1e-6,
        7000,
        1000,
        5e-6,
    )
    assert (settings.weight_decay, settings.momentum, settings.seed, settings.select) == (0, 0, 42, "wrong")
    assert settings.examples_csv == Path("imagenet_examples_ammended.csv")
    assert settings.imagenet_models_csv == Path("imagenet_models.csv")
    assert (settings.output_dir, settings.engine) == (Path("outputs"), "auto")
    assert (settings.model_csv_name, settings.correctness_npy, settings.root_dir, settings.class_to_idx) == (None,) * 4


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("epsilon", -0.1, r"--epsilon must be > 0, got -0.1"),
        ("epsilon", 0.0, r"--epsilon must be > 0, got 0.0"),
        ("epsilon", math.nan, r"--epsilon must be > 0, got nan"),
        ("epsilon", math.inf, r"--epsilon must be > 0, got inf"),
        ("lr", 0.0, r"--lr must be > 0, got 0.0"),
        ("lr", math.nan, r"--lr must be > 0, got nan"),
        ("max_steps_per_example", 0, r"--max_steps_per_example must be from 1 to 50,000,000, got 0"),
        ("max_examples", 0, r"--max_examples must be >= 1, or -1 for all, got 0"),
        ("tensorboard_examples", -2, r"--tensorboard_examples must be >= 0, or -1 for all, got -2"),
        ("max_examples", -2, r"--max_examples must be >= 1, or -1 for all, got -2"),
        ("weight_decay", -1.0, r"--weight_decay must be >= 0, got -1.0"),
        ("momentum", 1.0, r"--momentum must be >= 0 and < 1, got 1.0"),
        ("model_name", "", r"--model_name must be a model"),
        ("max_retries", -1, r"--max_retries must be >= 0, got -1"),
        ("workers", 0, r"--workers must be >= 1, got 0"),
        ("workers", 3, r"--workers 3 is of a cluster and needs --ray_address; on this machine --trainer.devices 3"),
        ("ray_address", "http://head:6379", r"--ray_address must be auto, or HOST:PORT .*, got http://head:6379"),
        ("shard", "17/16", r"--shard must be I/N with I from 1 to N, such as 3/16, got 17/16"),
        ("shard", "0/3", r"--shard must be I/N with I from 1 to N, such as 3/16, got 0/3"),
        ("shard", "1 of 2", r"--shard must be I/N with I from 1 to N, such as 3/16, got 1 of 2"),
        ("matrix_examples_csv", Path("x.csv"), r"--matrix_examples_csv x.csv needs --correctness_npy"),
    ],
)
def test_an_option_that_breaks_its_rule_is_named_with_its_value(option: str, value: Any, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        StudySettings(**{option: value})


def test_a_shard_is_a_number_and_of_how_many() -> None:
    assert StudySettings(shard="3/16").part == (3, 16)
    assert StudySettings().part is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard": "3/16"}, "--shard 3/16 is of run: a plan speaks of the whole study, leave it out"),
        ({"pilot_examples": 5}, "--pilot_examples must be >= 10: fewer say nothing, got 5"),
        ({"max_examples": 3}, "--max_examples must be >= 10 for a plan, or -1 for all, got 3"),
        ({"pilot_minutes": 0.0}, "--pilot_minutes must be > 0, got 0"),
        ({"epsilon": 0.0}, "--epsilon must be > 0, got 0"),
    ],
)
def test_what_a_plan_can_not_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        PlanSettings(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root_dir": Path("no")}, "--root_dir must be a folder, got no"),
        ({"batch_size": 0}, "--batch_size must be >= 1, got 0"),
        ({"num_workers": -1}, "--num_workers must be >= 0, got -1"),
        ({"class_to_idx": Path("c"), "ground_truth": Path("t")}, "both give labels: leave one of them out"),
    ],
)
def test_what_a_pool_can_not_be(options: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"models": "a", "root_dir": Path(), "output_dir": Path("pool")}
    assert EvaluationSettings(**good)
    with pytest.raises(BadInputError, match=message):
        EvaluationSettings(**{**good, **options})


def test_validation_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--root_dir must be a folder, got no"):
        ValidationSettings(root_dir=Path("no"))
    with pytest.raises(BadInputError, match="--batch_size must be >= 1, got 0"):
        ValidationSettings(root_dir=tmp_path, batch_size=0)
