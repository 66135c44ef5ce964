"""Folders and files as somebody who means harm, or a broken disk, would hand them over, given to the commands.

`python -m tests.hostile 5000` tries so many; a few are tried in `tests/test_hostile.py`. A case is one command over a
copy of a good folder in which one thing was changed. It must end soon, with an exit code, without a traceback, and
leave what lies outside of its own folder as it was.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import timm
import yaml
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat

from lightning_app.cli import main

SECONDS = 30
"""More than any case may take on a slow machine."""
MODEL, STUDY, POOL, IMAGES = "model", "outputs/model", "pool", "images"
SHARDS = ("outputs/model_shard_1_of_2", "outputs/model_shard_2_of_2")
BY_MATRIX = ("run", "--config", "run.yaml", "--dry_run", "--correctness_npy", "pool/correctness.npy",
             "--imagenet_models_csv", "pool/models.csv")  # fmt: skip
STUDIES = ("study.jsonl", "run.json", "config.yaml", "training_summary.json", "single_example_results.csv",
           "workers.json", "step_logs", "step_logs/*", "report.html", ".report.html.writing", "report", ".lock",
           ".writing", ".study.jsonl.writing", "tensorboard", "tensorboard/*", "train_single_0.log",
           "predictions-*.jsonl", "predictions-0.jsonl")  # fmt: skip
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(
        STUDIES,
        (
            ("status", STUDY), ("report", STUDY, "--json"), ("report", STUDY),
            ("merge", STUDY, "--output_dir", "merged"),
            ("run", "--config", "run.yaml"), ("run", "--config", "run.yaml", "--overwrite"),
        ),
    ),
    **dict.fromkeys(
        ("pool/evaluate.json", "pool/tables/*", "pool/tables", "pool/.lock", "pool/accuracy.csv"),
        (("evaluate", "--models", f"local-dir:{MODEL}", "--root_dir", IMAGES, "--output_dir", POOL),),
    ),
    **dict.fromkeys(
        ("pool/correctness.npy", "pool/losses.npy", "pool/models.csv", "pool/examples.csv"),
        (("rank", POOL), ("rank", POOL, "--output_csv", "r.csv")),
    ),
    **dict.fromkeys(("pool/ranking.json", "pool/ranking.csv"), (("run", "--config", "run.yaml", "--dry_run"),)),
    **dict.fromkeys(("pool/correctness.npy ", "pool/examples.csv ", "pool/models.csv "), (BY_MATRIX,)),
    **dict.fromkeys(
        (f"{SHARDS[0]}/*", f"{SHARDS[0]}/study.jsonl", f"{SHARDS[1]}/study.jsonl", f"{SHARDS[1]}/step_logs/*"),
        (("merge", *SHARDS), ("merge", *SHARDS, "--output_dir", "merged", "--overwrite")),
    ),
    **dict.fromkeys(
        ("theirs/single_example_results.csv", "theirs/step_logs/*", "theirs/training_summary.json", "theirs/step_logs"),
        (("report", "theirs", "--json"), ("report", "theirs/single_example_results.csv"),
         ("report", "theirs", "--epsilon", "0.5", "--json")),
    ),
    **dict.fromkeys(
        ("truth.txt", "meta.mat"),
        (("evaluate", "--models", f"local-dir:{MODEL}", "--root_dir", "flat", "--output_dir", "p", "--ground_truth",
          "truth.txt"),),
    ),
    "idx.json": (
        ("validate", "--model_name", f"local-dir:{MODEL}", "--root_dir", IMAGES, "--class_to_idx", "idx.json"),
    ),
    "models.yaml": (("evaluate", "--models", "models.yaml", "--root_dir", IMAGES, "--output_dir", "p"),),
    "run.yaml": (("run", "--config", "run.yaml", "--dry_run"), ("plan", "--config", "run.yaml", "--dry_run")),
    "trainer.yaml": (("run", "--config", "run.yaml", "--dry_run", "--trainer", "trainer.yaml"),),
    f"{MODEL}/config.json": (
        ("run", "--config", "run.yaml", "--dry_run"),
        ("evaluate", "--models", f"local-dir:{MODEL}", "--root_dir", IMAGES, "--output_dir", "p"),
    ),
    f"{MODEL}/model.safetensors": (("run", "--config", "run.yaml", "--dry_run"),),
    f"{IMAGES}/a/0.png": (
        ("evaluate", "--models", f"local-dir:{MODEL}", "--root_dir", IMAGES, "--output_dir", "p"),
        ("fit", "--model_name", f"local-dir:{MODEL}", "--data.path", f"{IMAGES}/a/0.png", "--data.label", "0"),
        ("report", STUDY),
    ),
}  # fmt: skip
"""What may be changed, and the commands that read or write it."""
NO_GPU = ("run", "plan", "evaluate", "validate", "fit")

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**400, -(10**30), float("nan"), float("inf"), "", "x", "\0", "\ud800", "../../victim",
    "/etc/passwd", "a" * 5000, [], {}, [[]], {"a": {}}, ["x", 1, None], [1] * 100, {"epsilon": [1]}, "nan", "1e999",
    b"\xff",
)  # fmt: skip


def make_good(root: Path) -> None:
    """A model, images, a pool with a ranking, and a study with a report; made by the commands themselves."""
    with contextlib.chdir(root):
        for label, name in enumerate("abc"):
            (Path(IMAGES) / name).mkdir(parents=True)
            for i in range(4):
                pixels = np.random.default_rng(10 * label + i).integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(Path(IMAGES) / name / f"{i}.png")
        Path(MODEL).mkdir()
        network = timm.create_model("test_resnet", num_classes=3)
        save_file(network.state_dict(), Path(MODEL) / "model.safetensors")
        pretrained_cfg = {
            **{"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
            **{"num_classes": 3, "crop_pct": 1.0, "first_conv": "stem.conv1", "classifier": "head.fc"},
        }
        config = {
            **{"architecture": "test_resnet", "num_classes": 3, "label_names": ["a", "b", "c"], "model_args": {}},
            "pretrained_cfg": pretrained_cfg,
        }
        (Path(MODEL) / "config.json").write_text(json.dumps(config))
        Path("idx.json").write_text('{"a": 0, "b": 1, "c": 2}')
        Path("models.yaml").write_text(f"models: [local-dir:{MODEL}]")
        Path("trainer.yaml").write_text("devices: 1\n")
        flags = {"model_name": f"local-dir:{MODEL}", "root_dir": IMAGES, "examples_csv": "pool/ranking.csv",
                 "select": "all", "max_examples": 3, "max_steps_per_example": 3, "lr": 0.001}  # fmt: skip
        Path("run.yaml").write_text(yaml.safe_dump(flags))
        for argv in (
            ["evaluate", "--models", "models.yaml", "--root_dir", IMAGES, "--output_dir", POOL],
            ["rank", POOL],
            ["run", "--config", "run.yaml"],
            ["report", STUDY],
            ["run", "--config", "run.yaml", "--shard", "1/2"],
            ["run", "--config", "run.yaml", "--shard", "2/2"],
        ):
            said = call(argv)
            assert said.code == 0, said
        Path("theirs").mkdir()
        for name in ("single_example_results.csv", "training_summary.json"):
            shutil.copy(Path(STUDY) / name, "theirs")
        shutil.copytree(Path(STUDY) / "step_logs", "theirs/step_logs")
        Path("flat").mkdir()
        for n in (1, 2, 3):
            shutil.copy(f"{IMAGES}/a/0.png", f"flat/ILSVRC2012_val_0000000{n}.png")
        Path("truth.txt").write_text("1\n2\n3\n")
        ids = [(n, f"n0000000{n}") for n in (1, 2, 3)]
        savemat("meta.mat", {"synsets": np.array(ids, dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])})
        (Path(STUDY) / "workers.json").write_text("[]")
        (Path(STUDY) / "train_single_0.log").write_text("2026-01-01 00:00:00,000 ERROR   no\n")


class Said:
    """How a command ended.

    Args:
        code: Its exit code; None where it raised.
        text: What it printed, or its traceback.
    """

    def __init__(self, code: int | None, text: str) -> None:
        self.code = code
        self.text = text

    def __repr__(self) -> str:
        return f"{self.code}: {self.text}"


class TooLongError(BaseException):
    """Not an Exception: nothing that a command catches."""


def call(argv: list[str]) -> Said:
    """Runs a command in this process."""
    printed = io.StringIO()

    def too_long(number: int, frame: FrameType | None) -> NoReturn:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            flags = ["--trainer.accelerator", "cpu"] if argv[0] in NO_GPU else []
            return Said(main([*argv, *flags]), printed.getvalue())
    except SystemExit as error:
        return Said(error.code if isinstance(error.code, int) else None, printed.getvalue())
    except BaseException:
        return Said(None, traceback.format_exc())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def change(root: Path, what: str, chance: random.Random) -> str:
    """Changes one thing, and says how; a name with a star is one of those that fit, or a new one."""
    pattern = what.strip() if what in PLACES else f"{STUDY}/{what}"
    there = sorted(str(path.relative_to(root)) for path in root.glob(pattern))
    name = chance.choice(there) if there else pattern.replace("*", "new")
    file = root / name
    how = chance.choice(("value", "value", "value", "bytes", "cut", "deep", "bomb", "kind", "kind"))
    if how == "value" and not file.is_file():
        how = "kind"
    data = file.read_bytes() if file.is_file() else b""
    if how == "value":
        data, how = _with_another_value(data, chance)
    elif how == "bytes":
        junk = bytes(chance.choices(range(256), k=chance.randrange(1, 40)))
        place = chance.randrange(len(data) + 1)
        data = data[:place] + junk + data[place + chance.randrange(40) :]
    elif how == "cut":
        data = data[: chance.randrange(len(data) + 1)]
    elif how == "deep":
        data = chance.choice((b"[", b'{"a":', b"- ", b"a: {", b'[{"x":')) * chance.choice((50, 2000, 100_000))
    elif how == "bomb":
        lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
        lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
        data = "\n".join(lines).encode()
    if how == "kind":
        return f"{name}: {_another_kind(root, file, chance)}"
    _clear(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return f"{name}: {how}"


PLACES = frozenset(name for name in COMMANDS if name not in STUDIES)


def _clear(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    else:
        file.unlink(missing_ok=True)


def _another_kind(root: Path, file: Path, chance: random.Random) -> str:
    _clear(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = chance.choice(
        ("pipe", "folder", "gone", "empty", "endless", "to itself", "to a file", "to a folder", "huge")
    )
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
        (file / "precious").write_text("of the user")
    elif kind == "empty":
        file.touch()
    elif kind == "huge":
        with file.open("wb") as stream:
            stream.truncate(2**40)
    elif kind != "gone":
        targets = {"endless": "/dev/zero", "to itself": file.name, "to a file": str(root.parent / "victim" / "a.txt"),
                   "to a folder": str(root.parent / "victim")}  # fmt: skip
        file.symlink_to(targets[kind])
    return kind


def _with_another_value(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """JSON, YAML or CSV with another value somewhere."""
    odd = chance.choice(ODD)
    text = data.decode(errors="replace")
    if text.startswith('{"'):  # lines of JSON
        rows = text.splitlines()
        row = chance.randrange(len(rows))
        with contextlib.suppress(ValueError):
            content = json.loads(rows[row])
            where = _put(content, odd, chance)
            rows[row] = json.dumps(content, separators=(",", ":"))
            return "".join(f"{row}\n" for row in rows).encode(
                "utf-8", "surrogatepass"
            ), f"{row + 1}{where} is {odd!r:.40}"
    for load, dump in ((json.loads, json.dumps), (yaml.safe_load, yaml.safe_dump)):
        with contextlib.suppress(Exception):
            content = load(text)
            if isinstance(content, dict | list):
                where = _put(content, odd, chance)
                return dump(content).encode("utf-8", "surrogatepass"), f"{where} is {odd!r:.40}"
    lines = text.split("\n")
    row = chance.randrange(len(lines))
    cells = lines[row].split(",")
    column = chance.randrange(len(cells))
    cells[column] = str(odd)
    lines[row] = ",".join(cells)
    return "\n".join(lines).encode("utf-8", "surrogatepass"), f"line {row + 1} cell {column + 1} is {odd!r:.40}"


def _put(content: Any, odd: Any, chance: random.Random) -> str:
    """Puts a value somewhere into JSON."""
    where = ""
    while True:
        keys = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not keys:
            break
        key = chance.choice(keys)
        where += f".{key}"
        if isinstance(content[key], dict | list) and content[key] and chance.random() < 0.8:
            content = content[key]
            continue
        content[key] = odd if not isinstance(odd, bytes) else odd.decode("latin-1")
        break
    return where


@contextlib.contextmanager
def working_copy(good: Path) -> Iterator[Path]:
    """A copy of the good folder, beside a folder that nobody may touch."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        root = Path(folder) / "root"
        shutil.copytree(good, root)
        victim = Path(folder) / "victim"
        victim.mkdir()
        (victim / "a.txt").write_text("precious\n" * 100)
        with contextlib.chdir(root):
            yield root


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def attack(good: Path, seed: int) -> tuple[str, Said, str]:
    """One case.

    Returns:
        What was done, how the command ended, and what is wrong with that; empty if nothing.
    """
    chance = random.Random(seed)
    what = chance.choice(sorted(COMMANDS))
    argv = list(chance.choice(COMMANDS[what]))
    with working_copy(good) as root:
        how = change(root, what, chance)
        victim = root.parent / "victim"
        before = snapshot(victim)
        said = call(argv)
        wrong = ""
        if said.code is None or "Traceback" in said.text:
            wrong = "a traceback"
        elif snapshot(victim) != before:
            wrong = "the victim was touched"
        elif said.code not in (0, 1, 2, 3):
            wrong = "an unknown exit code"
        elif said.code == 2 and "error:" not in said.text:
            wrong = "no reason"
        return f"seed {seed}: {how}; {' '.join(argv)}", said, wrong


READERS = (
    ("status", STUDY), ("status", STUDY, "--json"), ("report", STUDY, "--json"),
    ("report", STUDY, "--json", "--epsilon", "1.0"), ("merge", *SHARDS), ("merge", *SHARDS),
    ("run", "--config", "run.yaml"),
)  # fmt: skip
"""The commands that read a study's log; the last one writes too."""


def attack_store(good: Path, seed: int) -> tuple[str, Said, str]:
    """One case of a log in which something was changed; see `attack`. Reading it must write nothing."""
    chance = random.Random(seed)
    argv = list(chance.choice(READERS))
    with working_copy(good) as root:
        file = root / chance.choice(SHARDS if argv[0] == "merge" else (STUDY,)) / "study.jsonl"
        data, how = _another_log(file.read_bytes(), chance)
        file.write_bytes(data)
        before = snapshot(root.parent)
        said = call(argv)
        wrong = ""
        if said.code is None or "Traceback" in said.text:
            wrong = "a traceback"
        elif said.code not in (0, 2, 3):
            wrong = "an unknown exit code"
        elif (argv[0] in ("status", "report") or (argv[0] == "merge" and said.code == 2)) and (
            snapshot(root.parent) != before
        ):
            wrong = "something was written"
        elif argv[0] == "run" and not file.read_bytes().startswith(_whole(data)):
            wrong = "the log was changed"
        elif said.code == 2 and "error:" not in said.text:
            wrong = "no reason"
        return f"seed {seed}: {how}; {' '.join(argv)}", said, wrong


def _whole(data: bytes) -> bytes:
    """The lines of a log that a kill can't have left."""
    *lines, _ = data.split(b"\n")
    if lines and b"\0" in lines[-1]:
        lines.pop()
    return b"".join(line + b"\n" for line in lines)


def _another_log(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A log with other lines, or something else in one of them."""
    lines = data.splitlines(keepends=True)
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    how = chance.choice(("value", "value", "value", "value", "bytes", "cut", "drop", "twice", "swap", "junk", "zeros",
                         "deep", "long", "losses", "loss", "loss", "kind", "huge"))  # fmt: skip
    if how == "value":
        return _with_another_value(data, chance)
    if how == "bytes":
        place = chance.randrange(len(data))
        junk = bytes(chance.choices(range(256), k=chance.randrange(1, 40)))
        return data[:place] + junk + data[place + chance.randrange(40) :], f"bytes at {place}"
    if how == "cut":
        return data[: chance.randrange(len(data))], how
    if how == "kind":
        kind = chance.choice(("study", "environment", "target", "command", "example"))
        return b"".join(line for line in lines if f'"kind":"{kind}"'.encode() not in line), f"no {kind}"
    if how == "huge":
        key = chance.choice(("rank", "label", "steps", "seconds", "predicted_before"))
        number = chance.choice((b"9" * 400, b"1e400", b"-1", b"9" * 19, b"NaN"))
        return re.sub(f'"{key}":[^,}}]*'.encode(), f'"{key}":'.encode() + number, data), f"{key} is {number[:20]!r}"
    if how == "loss":
        places = [data.index(b'"losses":"', start) + 10 for start in range(0, data.rindex(b'"losses":"'), 300)]
        place = chance.choice(places) + chance.randrange(6)
        return data[:place] + chance.choice((b"/", b"A", b"f")) + data[place + 1 :], f"a loss at {place}"
    if how == "drop":
        del lines[one]
    elif how == "twice":
        lines.insert(other, lines[one])
    elif how == "swap":
        lines[one], lines[other] = lines[other], lines[one]
    elif how == "losses":
        lines[one] = lines[one].replace(
            b'"losses":"', b'"losses":"' + chance.choice((b"A", b"AAAA", b"=", b"/+//" * 9))
        )
    else:
        lines[one] = {
            "junk": b"{}\n", "zeros": bytes(100) + b"\n", "deep": b'{"kind":"example","x":' + b"[" * 100_000 + b"\n",
            "long": b'{"kind":"study","x":"' + b"x" * 3_000_000 + b'"}\n',
        }[how]  # fmt: skip
    return b"".join(lines), f"{how} at line {one + 1}"


def attack_many(
    seeds: range, say: Callable[[str], object], attack: Callable[[Path, int], tuple[str, Said, str]] = attack
) -> int:
    """Many cases over one good folder; says what goes wrong, and counts it."""
    codes: Counter[int | None] = Counter()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="good-") as folder:
        make_good(Path(folder))
        for seed in seeds:
            started = time.monotonic()
            words, said, wrong = attack(Path(folder), seed)
            codes[said.code] += 1
            if wrong:
                bad += 1
                say(f"{wrong}: {words}\n{said.text[-3000:]}")
            if time.monotonic() - started > SECONDS / 2:
                say(f"slow ({time.monotonic() - started:.0f} s): {words}")
    say(f"{len(seeds)} cases, {bad} of them bad; exit codes {dict(sorted(codes.items(), key=str))}")
    return bad


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--stores", action="store_true", help="studies' logs alone")
    asked = parser.parse_args()
    seeds = range(asked.first, asked.first + asked.cases)
    which = attack_store if asked.stores else attack
    sys.exit(bool(attack_many(seeds, lambda line: print(line, flush=True), which)))
