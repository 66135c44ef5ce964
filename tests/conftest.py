"""What tests share: tiny images, tiny timm classifiers with random weights, and a look at what a test leaves behind."""

import json
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import HealthCheck, settings
from PIL import Image
from safetensors.torch import save_file

from lightning_app.console.signals import SIGNALS

CLASSES = ("ant", "bee", "cat", "dog")
SHARED = Path(__file__).parents[2] / "shared" / "cifar10"

MakeModel = Callable[..., str]

settings.register_profile("thorough", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
"""`pytest --hypothesis-profile=thorough`: each property of a reader on ten thousand cases."""


def pytest_configure() -> None:
    """Heeds the signals that a shell has its background processes ignore: tests send them to what they start."""
    for number in SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips what this machine can't run, with the reason; slow files come first, so that all processes end together.

    A test of clusters has more time than others, a property on ten thousand cases all that it needs.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if settings.get_current_profile_name() == "thorough":
            item.add_marker(pytest.mark.timeout(0))
        elif item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.timeout(900))
        if item.get_closest_marker("shared_data") and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason="the shared real data is not on this machine"))
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU on this machine"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """Limits the time of what follows a failure, which has ended the test's own limit; after this the process ends."""
    signal.alarm(300)
    try:
        return (yield)
    finally:
        signal.alarm(0)


forks: list[str] = []


def note_fork() -> None:
    """Notes a fork of this process if it has threads: a lock that one of them holds stays taken in the child.

    Python 3.12 and newer warn of it. As an error, the warning would vanish: a fork does not fail. Ray starts its
    processes so, and can't do otherwise.
    """
    threads = Path("/proc/self/task")
    stack = traceback.extract_stack(limit=10)
    if any("/ray/_private/" in frame.filename for frame in stack):
        return
    if not threads.is_dir() or len(list(threads.iterdir())) > 1:
        forks.append("".join(traceback.format_list(stack)))


os.register_at_fork(before=note_fork)


@pytest.fixture(autouse=True)
def no_fork_of_threads() -> Iterator[None]:
    """Fails the test after which this process, which has threads, has been forked."""
    yield
    found = forks.copy()
    forks.clear()
    assert not found, f"a process that has threads was forked:\n{found[0]}"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The reference: bits depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs the test in an empty folder, and fails it if it changes the environment."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    before = dict(os.environ)
    yield work
    expected = {"CUBLAS_WORKSPACE_CONFIG", "JSONARGPARSE_DEPRECATION_WARNINGS"}  # set on purpose, as the next
    expected |= {"OMP_WAIT_POLICY", "CUDA_DEVICE_MAX_CONNECTIONS", "MPLBACKEND", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"}
    expected |= {"PYTEST_CURRENT_TEST", "PYTORCH_NVML_BASED_CUDA_CHECK"}  # pytest's and Lightning's own
    changed = {key for key in {*before, *os.environ} - expected if before.get(key) != os.environ.get(key)}
    assert not changed, f"the test changed the environment: {changed}"


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty 32x32 JPEGs in four class folders: smooth random colours, a different seed for each."""
    root = tmp_path_factory.mktemp("photographs")
    for c, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(10):
            rng = np.random.default_rng(100 * c + i)
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(root / name / f"{i:02}.jpg")
    return root


@pytest.fixture
def ranking(photographs: Path, in_a_folder_of_its_own: Path) -> Path:
    """The photographs in a fixed shuffled order, one path a line, under a root that isn't on this machine."""
    paths = sorted(f"/elsewhere/val/{f.parent.name}/{f.name}" for f in photographs.glob("*/*.jpg"))
    order = np.random.default_rng(1).permutation(len(paths))
    file = in_a_folder_of_its_own / "ranking.csv"
    file.write_text("\n".join(paths[i] for i in order) + "\n")
    return file


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Saves a timm architecture with random weights in the local-dir layout and gives its name for --model_name."""

    def make(architecture: str = "test_resnet", folder: str = "", **model_args: object) -> str:
        torch.manual_seed(5)
        network = timm.create_model(architecture, num_classes=len(CLASSES), **model_args)
        for module in network.modules():  # BatchNorm statistics that differ from what a batch of one would give
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        where = tmp_path_factory.mktemp("models") / (folder or architecture)
        where.mkdir()
        save_file(network.state_dict(), where / "model.safetensors")
        config = {
            "architecture": architecture,
            "num_classes": len(CLASSES),
            "model_args": model_args,
            "pretrained_cfg": {
                "input_size": [3, 32, 32],
                "mean": [0.5] * 3,
                "std": [0.25] * 3,
                "interpolation": "bicubic",
                "crop_pct": 1.0,
                "num_classes": len(CLASSES),
                "first_conv": network.pretrained_cfg["first_conv"],
                "classifier": network.pretrained_cfg["classifier"],
            },
        }
        (where / "config.json").write_text(json.dumps(config))
        return f"local-dir:{where}"

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: MakeModel) -> str:
    """A test_resnet with random weights."""
    return make_model("test_resnet", "tiny")


@pytest.fixture
def study(tiny_model: str, photographs: Path, ranking: Path) -> list[str]:
    """A study of a few examples that takes a second."""
    return [
        "run", "--model_name", tiny_model, "--examples_csv", str(ranking), "--root_dir", str(photographs),
        "--max_examples", "6", "--max_steps_per_example", "30", "--epsilon", "0.1", "--lr", "0.05",
        "--trainer.accelerator", "cpu",
    ]  # fmt: skip
