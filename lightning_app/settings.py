"""Every option of the commands, checked once, where it enters, and carried as a frozen dataclass from then on."""

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from lightning_app.errors import BadInputError, is_text
from lightning_app.files import MAX_DIGITS

Select = Literal["wrong", "correct", "all"]
EngineName = Literal["auto", "trainer", "slots"]
MatmulPrecision = Literal["highest", "high", "medium"]

CONFIGS = Path(__file__).parent / "configs"
"""YAML files of options, by bare name."""
MAX_STEPS = 50_000_000
"""Their losses are one line of the store."""
EXECUTION_ONLY = frozenset(("max_hours", "allow_mixed_environment", "overwrite", "dry_run"))
"""Options of a study that say how one command runs, and nothing about what comes out."""
PLACEMENT_ONLY = frozenset(("engine", "slots", "workers", "ray_address", "max_retries", "shard"))
"""Options of a study that no number depends on: what trains, and which part of it here."""


def require(flag: str, rule: str, value: object, holds: bool) -> None:
    """Refuses an option that breaks its rule.

    Args:
        flag: The option's name without its dashes.
        rule: What would be right, as it reads after "must be".
        value: What was given.
        holds: Whether the value is right.

    Raises:
        BadInputError: If it isn't, naming flag, rule and value.
    """
    if not holds:
        raise BadInputError(f"--{flag} must be {rule}, got {value}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a command."""

    def __post_init__(self) -> None:
        """Refuses what can't be written into a study's files, or read from there again."""
        for name, value in vars(self).items():
            require(name, "text in UTF-8, without NUL characters", repr(str(value)), is_text(str(value)))
            is_short = not isinstance(value, int) or abs(value) < 10**MAX_DIGITS
            require(name, f"a number of at most {MAX_DIGITS} digits", value, is_short)


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """Which classifier.

    Args:
        model_name: Anything that timm.create_model takes with pretrained weights: a name such as resnet34.a3_in1k,
            hf-hub:ORG/MODEL, or local-dir:FOLDER for a folder with config.json and model.safetensors.
    """

    model_name: str = "efficientvit_b0.r224_in1k"

    def __post_init__(self) -> None:
        """Checks what a flag alone can tell."""
        super().__post_init__()
        require("model_name", "a model that timm.create_model takes", repr(self.model_name), bool(self.model_name))


@dataclass(frozen=True, kw_only=True)
class LabelSettings(ModelSettings):
    """A classifier, and how the classes of images are numbered.

    Args:
        class_to_idx: A JSON file {"class folder": class index}. Without it, labels come from the ranking's label
            column, the model's own label names, WordNet ids in the paths (ImageNet models), folders called by class
            indices, or the order of the class folders.
    """

    class_to_idx: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ModelSettings):
    """One example's training.

    Args:
        epsilon: The loss to reach; an example stops at the first step whose loss is at or below it.
        max_steps_per_example: Steps after which an example is given up (its count is censored).
        lr: Learning rate of plain SGD.
        weight_decay: Weight decay of SGD.
        momentum: Momentum of SGD.
        matmul_precision: On a GPU, how float32 is multiplied: highest is IEEE float32; high (TF32) and medium are
            faster, and the counts of some examples are others.
    """

    epsilon: float = 1e-6
    max_steps_per_example: int = 1000
    lr: float = 5e-6
    weight_decay: float = 0.0
    momentum: float = 0.0
    matmul_precision: MatmulPrecision = "highest"

    def __post_init__(self) -> None:
        """Checks the numbers; a comparison with NaN is false, so NaN is refused too."""
        super().__post_init__()
        require("epsilon", "> 0", self.epsilon, 0 < self.epsilon < math.inf)
        steps = self.max_steps_per_example
        require("max_steps_per_example", f"from 1 to {MAX_STEPS:,}", steps, 1 <= steps <= MAX_STEPS)
        require("lr", "> 0", self.lr, 0 < self.lr < math.inf)
        require("weight_decay", ">= 0", self.weight_decay, 0 <= self.weight_decay < math.inf)
        require("momentum", ">= 0 and < 1", self.momentum, 0 <= self.momentum < 1)


@dataclass(frozen=True, kw_only=True)
class FitSettings(TrainingSettings, LabelSettings):
    """The training of an image that the user has."""


@dataclass(frozen=True, kw_only=True)
class StudySettings(FitSettings):
    """The study.

    Args:
        max_examples: How many examples to train; -1 trains all that the model gets wrong.
        examples_csv: The ranking by universal difficulty, easiest first: one line of paths as published, one path a
            line, or a table with a column path (and optionally rank, label).
        root_dir: Folder below which the ranking's images lie; without it paths are taken as written.
        imagenet_models_csv: One line of model names, best first: name j is row j of the correctness matrix.
        model_csv_name: This model's name in that list (default: model_name itself).
        correctness_npy: A matrix models x examples of 0/1 that says what each model gets right; without it the model
            itself is asked, one image at a time.
        matrix_examples_csv: The paths of the matrix's columns (default: examples.csv beside the matrix if there is
            one, else the ranking).
        select: Which examples to draw from: those the model gets wrong, or as controls those it gets right, or all.
        seed: Seed of the draw. A sample of n is the beginning of every larger one with the same seed.
        output_dir: Results go to output_dir/model_name.
        tensorboard_examples: Of how many examples the step-loss curves are shown in TensorBoard (or in the loggers of
            --trainer.logger), drawn with the same seed; -1 for all, 0 for none. Every example's are in step_logs/.
        engine: What trains the examples: trainer builds a Lightning Trainer for each; slots trains many at once on a
            GPU, with the same numbers; auto takes slots on a GPU where they pass their check, else trainer.
        slots: How many examples are trained at once on a GPU (default: as many as pay, by a short measurement).
        workers: With --ray_address: no more devices of the cluster than these (default: all of the kind that
            --trainer.accelerator says). On one machine --trainer.devices says how many.
        ray_address: Train on a Ray cluster that runs already: auto, or HOST:PORT of its head.
        max_retries: How often an example is trained again after the worker that had it was lost, first among others and
            then as often alone at the end; then it is an error.
        shard: Train only one part of the sample, such as 3/16: the third of sixteen parts, each with every sixteenth
            example by difficulty. merge puts them together.
        max_hours: Stop after the example in hand once this many hours are over; rerun the command to resume.
        allow_mixed_environment: Go on with a study whose rows were made in another environment (versions, CPU or GPU
            model); the summary names both.
        overwrite: Start anew where there is a study already, which is moved aside; without it the study is resumed.
        dry_run: Show the sample, its labels and the first image paths, and train nothing.
    """

    max_examples: int = 7000
    examples_csv: Path = Path("imagenet_examples_ammended.csv")
    root_dir: Path | None = None
    imagenet_models_csv: Path = Path("imagenet_models.csv")
    model_csv_name: str | None = None
    correctness_npy: Path | None = None
    matrix_examples_csv: Path | None = None
    select: Select = "wrong"
    seed: int = 42
    output_dir: Path = Path("outputs")
    tensorboard_examples: int = 50
    engine: EngineName = "auto"
    slots: int | None = None
    workers: int | None = None
    ray_address: str | None = None
    max_retries: int = 3
    shard: str | None = None
    max_hours: float | None = None
    allow_mixed_environment: bool = False
    overwrite: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers and the options that need one another."""
        super().__post_init__()
        require(
            "max_examples", ">= 1, or -1 for all", self.max_examples, self.max_examples >= 1 or self.max_examples == -1
        )
        require(
            "tensorboard_examples", ">= 0, or -1 for all", self.tensorboard_examples, self.tensorboard_examples >= -1
        )
        require("slots", ">= 1", self.slots, self.slots is None or self.slots >= 1)
        require("workers", ">= 1", self.workers, self.workers is None or self.workers >= 1)
        if self.workers is not None and self.ray_address is None:
            raise BadInputError(f"--workers {self.workers} is of a cluster and needs --ray_address; on this machine"
                                f" --trainer.devices {self.workers} says how many")  # fmt: skip
        address = self.ray_address
        is_address = address is None or address == "auto" or re.fullmatch(r"[^\s:/]+:\d{1,5}", address) is not None
        require("ray_address", "auto, or HOST:PORT of a cluster's head", address, is_address)
        require("max_retries", ">= 0", self.max_retries, self.max_retries >= 0)
        require(
            "shard", "I/N with I from 1 to N, such as 3/16", self.shard, self.shard is None or self._part() is not None
        )
        require("max_hours", "> 0", self.max_hours, self.max_hours is None or 0 < self.max_hours < math.inf)
        if self.matrix_examples_csv is not None and self.correctness_npy is None:
            raise BadInputError(f"--matrix_examples_csv {self.matrix_examples_csv} needs --correctness_npy")

    @property
    def part(self) -> tuple[int, int] | None:
        """The shard as its number, from 1, and how many there are; None for the whole."""
        return None if self.shard is None else self._part()

    def _part(self) -> tuple[int, int] | None:
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.shard or "")
        number, of = (int(match[1]), int(match[2])) if match else (0, 0)
        return (number, of) if 1 <= number <= of else None


@dataclass(frozen=True, kw_only=True)
class PlanSettings(StudySettings):
    """A study that is to be forecast.

    Args:
        pilot_examples: How many examples to train for the forecast: the first of the draw, which the study keeps.
        pilot_minutes: How long their training may take; they are given fewer steps where it would take longer.
    """

    pilot_examples: int = 50
    pilot_minutes: float = 10.0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        super().__post_init__()
        require("pilot_examples", ">= 10: fewer say nothing", self.pilot_examples, self.pilot_examples >= 10)
        enough = self.max_examples >= 10 or self.max_examples == -1
        require("max_examples", ">= 10 for a plan, or -1 for all", self.max_examples, enough)
        if self.shard is not None:
            raise BadInputError(f"--shard {self.shard} is of run: a plan speaks of the whole study, leave it out")
        require("pilot_minutes", "> 0", self.pilot_minutes, 0 < self.pilot_minutes < math.inf)

    def study(self) -> StudySettings:
        """The study itself."""
        return StudySettings(**{field.name: getattr(self, field.name) for field in fields(StudySettings)})


@dataclass(frozen=True, kw_only=True)
class ValidationSettings(LabelSettings):
    """A model's accuracy over a folder of images.

    Args:
        root_dir: Folder of images, one folder a class, or with WordNet ids in the paths.
        batch_size: Images in one forward pass.
    """

    root_dir: Path
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Checks the numbers and that the folder is there."""
        super().__post_init__()
        require("batch_size", ">= 1", self.batch_size, self.batch_size >= 1)
        require_folder(self.root_dir)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Settings):
    """What a pool of models says of a folder of images.

    Args:
        models: The pool: names with commas between them (anything that run takes as --model_name), a YAML list, or a
            file with a name a line.
        root_dir: Folder of images, one folder a class, or with WordNet ids in the paths.
        output_dir: Gets the correctness matrix, its lists of models and images, and a table a model.
        class_to_idx: A JSON file {"class folder": class index}. Without it, labels come from --ground_truth, the
            model's own label names, WordNet ids in the paths (ImageNet models), folders called by class indices, or
            the order of the class folders.
        ground_truth: For ImageNet's validation images in one folder: the devkit's
            ILSVRC2012_validation_ground_truth.txt with its meta.mat beside it, or a list of WordNet ids, where line n
            is the image whose name ends with n; or Kaggle's LOC_val_solution.csv.
        batch_size: Images in one forward pass.
        num_workers: Threads that decode images (default: up to 8 for a GPU, none for a CPU).
    """

    models: str | list[str]
    root_dir: Path
    output_dir: Path
    class_to_idx: Path | None = None
    ground_truth: Path | None = None
    batch_size: int = 64
    num_workers: int | None = None

    def __post_init__(self) -> None:
        """Checks the numbers and that the folder is there."""
        super().__post_init__()
        require("batch_size", ">= 1", self.batch_size, self.batch_size >= 1)
        require("num_workers", ">= 0", self.num_workers, self.num_workers is None or self.num_workers >= 0)
        require_folder(self.root_dir)
        if self.class_to_idx is not None and self.ground_truth is not None:
            raise BadInputError("--class_to_idx and --ground_truth both give labels: leave one of them out")


def require_folder(root_dir: Path) -> None:
    """Refuses a `--root_dir` that is no folder.

    Raises:
        BadInputError: If it isn't one.
    """
    require("root_dir", "a folder", f"{root_dir} ({root_dir.absolute()})", root_dir.is_dir())


BENCH_ENGINES = ("plain", "trainer", "slots")


@dataclass(frozen=True, kw_only=True)
class BenchSettings(TrainingSettings):
    """Ways to train, measured side by side.

    Args:
        engines: Which, with commas between them: plain is a plain PyTorch loop, trainer builds a Lightning Trainer for
            each example, slots trains many at once on a GPU. The first is what the others are compared with.
        examples: How many made-up images each trains on. Many slots are given more, four for each slot.
        repeats: How often each trains them, in turns.
        slots: How many examples are trained at once on a GPU (default: as many as pay, by a short measurement).
        json: Print JSON instead of a table.
    """

    epsilon: float = 0.01
    max_steps_per_example: int = 30
    lr: float = 1e-3
    engines: str = ",".join(BENCH_ENGINES)
    examples: int = 4
    repeats: int = 5
    slots: int | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers and the names of the engines."""
        super().__post_init__()
        names = self.engine_names
        holds = set(names) <= set(BENCH_ENGINES) and len(set(names)) == len(names)
        require("engines", f"some of {', '.join(BENCH_ENGINES)}, each once", self.engines, holds)
        require("examples", ">= 1", self.examples, self.examples >= 1)
        require("repeats", ">= 1", self.repeats, self.repeats >= 1)
        require("slots", ">= 1", self.slots, self.slots is None or self.slots >= 1)
        if self.slots is not None and "slots" not in names:
            raise BadInputError(f"--slots {self.slots} needs slots among --engines, got {self.engines}")

    @property
    def engine_names(self) -> tuple[str, ...]:
        """The engines by name."""
        return tuple(name.strip() for name in self.engines.split(","))
