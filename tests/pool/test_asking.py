import contextlib
import errno
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lightning_app.errors import BadInputError
from lightning_app.inputs.image import UnreadableImageError, read_image
from lightning_app.inputs.labels import Classes
from lightning_app.pool.asking import Asked, ask_about_all
from lightning_app.training.pretrained import Pretrained, load_pretrained
from tests import oracle
from tests.parallel.processes import descendants, environment, is_alive, wait_until

CPU = torch.device("cpu")
needs_linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")


def ask(model: str, files: list[Path], labels: list[int], batch_size: int = 16, num_workers: int = 0) -> Asked:
    done: list[int] = []
    asked = ask_about_all(load_pretrained(model), files, labels, CPU, batch_size, num_workers, done.append)
    assert sum(done) == len(files)
    return asked


def test_a_models_answers_are_the_plain_loops(tiny_model: str, photographs: Path) -> None:
    files = sorted(photographs.glob("*/*.jpg"))
    labels = [i // 10 for i in range(40)]
    asked = ask(tiny_model, files, labels)
    assert asked.correct.tolist() == [not oracle.wrong(tiny_model, f, y) for f, y in zip(files, labels, strict=True)]
    assert 0 < asked.correct.sum() < 40
    pretrained = load_pretrained(tiny_model)
    with torch.no_grad():
        logits = pretrained.network(torch.stack([pretrained.transform(read_image(file)) for file in files]))
    expected = torch.nn.functional.cross_entropy(logits.double(), torch.tensor(labels), reduction="none")
    assert asked.losses == pytest.approx(expected.numpy(), rel=1e-5)
    assert asked.predicted.tolist() == logits.argmax(dim=1).tolist()
    assert asked.readable.all()
    assert not asked.unreadable


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_read_is_left_out_and_named(tiny_model: str, photographs: Path, workers: int) -> None:
    good = sorted(photographs.glob("*/*.jpg"))[:5]
    bad = [Path("broken.jpg"), Path("long.png"), Path("gone.jpg")]
    bad[0].write_bytes(b"no image")
    Image.new("RGB", (3000, 1)).save(bad[1])
    files = [bad[0], *good[:3], bad[1], *good[3:], bad[2]]
    asked = ask(tiny_model, files, [0] * 8, batch_size=1, num_workers=workers)  # a batch of nothing but a broken one
    assert asked.readable.tolist() == [False, True, True, True, False, True, True, False]
    assert [asked.unreadable[place].partition(":")[0] for place in (0, 4, 7)] == [str(file) for file in bad]
    alone = ask(tiny_model, good, [0] * 5, batch_size=1)
    assert asked.losses[asked.readable].tolist() == alone.losses.tolist()
    assert np.isnan(asked.losses[[0, 4, 7]]).all()
    assert asked.accuracy == alone.accuracy


class Fixed(torch.nn.Module):
    """Logits from a table, one row an image, in order."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits
        self.place = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.place += len(pixels)
        return self.logits[self.place - len(pixels) : self.place]


@settings(max_examples=25, deadline=None)
@given(classes=st.integers(2, 9), seed=st.integers(0, 999))
def test_accuracies_are_those_counted_by_hand(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: str, classes: int, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    logits, labels = chance.normal(size=(12, classes)), chance.integers(0, classes, 12)
    file = tmp_path_factory.getbasetemp() / "one.png"
    Image.new("RGB", (32, 32)).save(file)
    asked = ask_about_all(
        fixed(tiny_model, torch.tensor(logits)), [file] * 12, labels.tolist(), CPU, 5, 0, lambda count: None
    )
    places = [int((row > row[label]).sum()) for row, label in zip(logits, labels, strict=True)]  # better classes
    assert asked.correct.tolist() == [place == 0 for place in places]
    assert asked.top5.tolist() == [place < 5 for place in places]
    assert asked.accuracy == pytest.approx((np.mean([p < 1 for p in places]), np.mean([p < 5 for p in places])))


def fixed(model: str, logits: torch.Tensor) -> Pretrained:
    """A model with these logits, one row an image."""
    pretrained = load_pretrained(model)
    return Pretrained(Fixed(logits), pretrained.transform, {}, Classes(logits.shape[1]))


def test_nan_and_a_tie_are_wrong(tiny_model: str, photographs: Path) -> None:
    files = sorted(photographs.glob("*/*.jpg"))[:3]
    logits = torch.zeros(3, 8)
    logits[0] = math.nan
    logits[1, 0] = logits[1, 3] = 5.0  # a tie of two
    logits[2, 0] = 5.0
    asked = ask_about_all(fixed(tiny_model, logits), files, [0, 0, 0], CPU, 3, 0, lambda count: None)
    assert asked.correct.tolist() == [0, 0, 1]
    assert asked.top5.tolist() == [0, 1, 1]
    assert asked.accuracy == pytest.approx((2 / 3, 2 / 3))  # torchmetrics takes the first of a tie
    assert math.isnan(asked.losses[0])


def test_a_passing_trouble_of_the_machine_is_no_fault_of_the_image(
    tiny_model: str, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(file: Path, transform: object) -> torch.Tensor:
        raise UnreadableImageError(f"{file}: ...") from OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("lightning_app.pool.asking.read_pixels", read)
    with pytest.raises(UnreadableImageError):
        ask(tiny_model, sorted(photographs.glob("*/*.jpg"))[:2], [0, 0])


def decoders(pid: int) -> list[int]:
    """The processes that decode below one, and the one that they are forks of."""
    return [one for one, words in descendants(pid).items() if "multiprocessing.forkserver" in words]


def test_processes_that_decode_change_nothing(tiny_model: str, photographs: Path) -> None:
    files = sorted(photographs.glob("*/*.jpg"))
    labels = [i // 10 for i in range(40)]
    alone, asked = (ask(tiny_model, files, labels, num_workers=workers) for workers in (0, 2))
    for name in ("readable", "predicted", "correct", "losses", "top5"):
        assert np.array_equal(getattr(asked, name), getattr(alone, name)), name
    assert asked.accuracy == alone.accuracy


@needs_linux
def test_processes_that_decode_are_forks_of_one_that_has_no_threads(tiny_model: str, photographs: Path) -> None:
    before = dict(os.environ)
    ask(tiny_model, sorted(photographs.glob("*/*.jpg"))[:2], [0, 0], num_workers=2)
    assert wait_until(lambda: len(decoders(os.getpid())) == 1, 15)
    (server,) = decoders(os.getpid())
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
    assert environment(server)["OPENBLAS_NUM_THREADS"] == "1"  # on a machine of one core, it has no threads anyhow
    assert dict(os.environ) == before


def test_the_program_that_has_called_is_not_run_again(
    tiny_model: str, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = Path("program.py").resolve()
    program.write_text("raise SystemExit('run again')")
    main = ModuleType("__main__")
    main.__file__ = str(program)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert ask(tiny_model, sorted(photographs.glob("*/*.jpg"))[:2], [0, 0], num_workers=1).readable.all()
    assert sys.modules["__main__"] is main


def test_a_transform_that_cannot_go_to_other_processes_is_refused(tiny_model: str, photographs: Path) -> None:
    pretrained = load_pretrained(tiny_model)
    transform = pretrained.transform
    pretrained = replace(pretrained, transform=lambda image: transform(image))
    files = sorted(photographs.glob("*/*.jpg"))[:2]
    with pytest.raises(BadInputError, match=r"--num_workers 2: the model's transform can't go to other processes \(.*"
                                            r"lambda.*\); --num_workers 0 decodes in this one"):  # fmt: skip
        ask_about_all(pretrained, files, [0, 0], CPU, 2, 2, lambda count: None)
    assert ask_about_all(pretrained, files, [0, 0], CPU, 2, 0, lambda count: None).readable.all()


@needs_linux
@pytest.mark.slow  # PyTorch looks every five seconds
def test_a_process_that_dies_is_said_and_leaves_no_other(tiny_model: str, photographs: Path) -> None:
    files = sorted(photographs.glob("*/*.jpg")) * 5
    server: list[int] = []

    def kill_one(count: int) -> None:
        if not server:
            newest = sorted(decoders(os.getpid()))
            server.append(newest[0])
            os.kill(newest[-1], signal.SIGKILL)

    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        ask_about_all(load_pretrained(tiny_model), files, [0] * len(files), CPU, 1, 2, kill_one)
    assert wait_until(lambda: decoders(os.getpid()) == server, 15)


@needs_linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "processes"),
    [
        (signal.SIGINT, 1),  # while the first makes itself ready
        (signal.SIGINT, 3),  # while two decode
        (signal.SIGKILL, 3),
    ],
)
def test_they_end_with_the_command(tiny_model: str, photographs: Path, number: signal.Signals, processes: int) -> None:
    for place, file in enumerate(sorted(photographs.glob("*/*.jpg")) * 100):
        Path("images", file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, Path("images", file.parent.name, f"{place}.jpg"))
    program = subprocess.Popen(
        [sys.executable, "-m", "lightning_app", "evaluate", "--models", tiny_model, "--root_dir", "images",
         "--output_dir", "pool", "--num_workers", "2", "--batch_size", "1", "--trainer.accelerator", "cpu"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: len(decoders(program.pid)) >= processes or program.poll() is not None, 60)
        below = descendants(program.pid)
        if number == signal.SIGINT:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGINT)  # as a terminal does
        else:
            program.kill()
        _, said = program.communicate()
        assert program.returncode == (130 if number == signal.SIGINT else -number), said
        assert ("stopped by SIGINT" in said) == (number == signal.SIGINT)
        assert number == signal.SIGKILL or "Traceback" not in said
        assert wait_until(lambda: not any(map(is_alive, below)), 15)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
