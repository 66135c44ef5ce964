"""Ends a study, its growth, more steps and a merge at every operation on a file, and looks at what comes of it.

`python -m tests.store.kills` tries each operation; a tenth is tried in `test_writer.py`. A process is killed before, in
the middle of and after each, or the disk is full from then on. The same command again must give the undisturbed files.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy would start threads, and such a process can't be forked

from lightning_app.errors import StorageError
from lightning_app.store.files import sample_sha256
from lightning_app.store.study_log import Shard, read_study
from lightning_app.study import finalize as concluding
from lightning_app.study.merge import merge
from tests.store.studies import sample_of, study_of, without_sizes
from tests.torture import Killer, fork

STAGES = [(3, 10), (7, 10), (7, 50)]
"""A study that grows, and then gets more steps: examples and limit."""
SHARDS = 2
FULL_DISK = 28


def ended(work: Callable[[], object], how: str, number: int, note: Path) -> str:
    """Does something in a child that comes to its end at its so manyth operation on a file.

    Args:
        work: What is done.
        how: `killed`, or `full`: the disk.
        number: Of the operation, from 1; 0 for none of them.
        note: A file to say which that was.

    Returns:
        The operation; or, where it came to none, how many there are.
    """
    child = fork()
    if not child:
        left = [number]

        def ends(operation: str) -> bool:
            left[0] -= 1
            if left[0] == 0:
                note.write_text(operation)
            if how == "full" and number and left[0] <= 0 and not operation.startswith("after the end of"):
                raise OSError(FULL_DISK, "No space left on device")
            return how == "killed" and left[0] == 0

        code = 70
        try:
            signal.alarm(60)  # so that a child that hangs ends, also when nobody waits for it any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            Killer(ends)
            work()
            code = 0
            if number == 0:
                note.write_text(str(-left[0]))
        except StorageError:
            code = 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    operation = note.read_text()
    assert code in ((0,) if number == 0 else (0, 1) if how == "full" else (-signal.SIGKILL,)), (operation, code)
    return operation


def try_all(
    before: Path | None, expected: Path, work: Callable[[Path], object], how: str, chance: random.Random, share: float
) -> Counter[str]:
    """Tries operations of one command.

    Args:
        before: What is there before it; None for nothing.
        expected: The folder that it leaves.
        work: The command, on a folder.
        how: See `ended`.
        chance: Draws those that are tried.
        share: Of them.

    Returns:
        How often what was tried.
    """
    tried = Counter[str]()
    place = expected.parent / "tried"
    folder, note = place / expected.name, expected.parent / "operation"

    def prepare() -> None:
        if place.exists():
            shutil.rmtree(place)
        if before is not None:
            shutil.copytree(before, place)

    prepare()
    operations = int(ended(lambda: work(folder), how, 0, note))
    for number in sorted(chance.sample(range(1, operations + 1), max(1, round(share * operations)))):
        prepare()
        operation = ended(lambda: work(folder), how, number, note)
        found = read_study(folder)
        assert found is None or len(found.examples) <= len(found.target.examples), operation
        work(folder)
        assert without_sizes(folder) == without_sizes(expected), f"{how} {operation}"
        left = [*place.rglob("*.writing"), *folder.glob("step_logs.old-*"), *place.rglob(".lock")]
        assert not left, (operation, left)
        tried[operation] += 1
    shutil.rmtree(place)
    return tried


def main(argv: Sequence[str]) -> None:
    """Tries them all, or a share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--how", choices=("killed", "full"), nargs="*", default=("killed", "full"))
    options = parser.parse_args(argv)
    vars(concluding)["drawn"] = lambda *args: {"png": b"a picture"}
    chance = random.Random(options.seed)
    for how in options.how:
        with tempfile.TemporaryDirectory(prefix="kills-") as work:
            tried = Counter[str]()
            before: Path | None = None
            for stage, (count, limit) in enumerate(STAGES):
                after = Path(work) / f"stage{stage}"
                if before is not None:
                    shutil.copytree(before, after)
                study_of(after / "m", sample_of(count), limit)
                command = lambda folder, count=count, limit=limit: study_of(folder, sample_of(count), limit)  # noqa: E731
                tried += try_all(before, after / "m", command, how, chance, options.share)
                before = after
            tried += merges(Path(work), how, chance, options.share)
        print(f"{how} at {tried.total()} operations of {len(tried)} kinds: all is as undisturbed")
        assert tried.total() > options.share * 150


def merges(work: Path, how: str, chance: random.Random, share: float) -> Counter[str]:
    """The same for a merge."""
    whole = sample_of(7)
    digest = sample_sha256(one.path for one in whole)
    shards = work / "shards"
    for number in range(1, SHARDS + 1):
        part = [one.__class__(n, one.path, one.image, one.label, one.rank)
                for n, one in enumerate(whole[number - 1 :: SHARDS])]  # fmt: skip
        study_of(shards / f"part{number}", part, 10, Shard(number, SHARDS, len(whole), digest))
        (shards / f"part{number}" / "predictions-a.jsonl").write_text("{}\n")

    def command(folder: Path) -> None:
        parts = [folder.parent / f"part{number}" for number in range(1, SHARDS + 1)]
        assert merge(parts, None, mixed=False, overwrite=False) == 0

    shutil.copytree(shards, work / "merged")
    command(work / "merged" / "tiny")
    return try_all(shards, work / "merged" / "tiny", command, how, chance, share)


if __name__ == "__main__":
    main(sys.argv[1:])
