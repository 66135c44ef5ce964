"""Kills a study again and again, in the middle of what it writes, and looks whether the numbers are still the same.

`make torture` runs it on the demo's digits; a small one is in `tests/test_torture.py`. The command is imported once and
then forked for every attempt, so that an attempt takes a second and not ten.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

RESULTS = "single_example_results.csv"

STORE = "study.jsonl"

KILL_POINTS = {
    "in the middle of a line": f"half of a write of {STORE}",
    "after the line, before its flush": f"after a write of {STORE}",
    "after its flush": f"after a fsync of {STORE}",
    "half a step log while it runs": "half of a write of step_logs/example",
    "in the middle of a row": f"half of a write of {RESULTS}",
    "after the row": f"after a write of {RESULTS}",
    "half a table": "half of a fsync of .writing for the table",
    "after run.json": "after a rename to run.json",
    "the summary taken away": "after the end of training_summary.json",
    "a step log exported": "after a rename to step_logs/example",
    "a step log of an old number taken away": "after the end of step_logs/example",
    "after the final table": f"after a rename to {RESULTS}",
    "after the picture": "after a rename to steps_vs_difficulty.png",
    "after the summary": "after a rename to training_summary.json",
}
"""What happens to a process, by the operation on a file that it happens at."""

COSTS_NOTHING = ("in the middle of a line", "half a table", "after run.json")
"""Before the first example of a command is on the disk."""
THE_END = tuple(KILL_POINTS)[-4:]
"""When every example is done."""


class Killer:
    """Watches what this process does to files, and kills it at a chosen operation.

    Operations are counted before, in the middle of and after what they do. The middle of a flush is a file of which
    half is on the disk, as a power cut leaves it.

    Args:
        dies: Says of an operation, in words, whether to die there.
    """

    def __init__(self, dies: Callable[[str], bool]) -> None:
        self.dies = dies
        self._write, self._fsync, self._replace, self._unlink = os.write, os.fsync, os.replace, os.unlink
        os.write, os.fsync, os.replace, os.unlink = self.write, self.fsync, self.replace, self.unlink  # type: ignore[assignment]

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def write(self, descriptor: int, data: bytes) -> int:
        """A write of a row."""
        name = _short(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        if self.dies(f"half of a write of {name}"):
            self._write(descriptor, data[: len(data) // 2])
            self._die()
        done = self._write(descriptor, data)
        if self.dies(f"after a write of {name}"):
            self._die()
        return done

    def fsync(self, descriptor: int) -> None:
        """A flush."""
        name = _short(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        size = os.fstat(descriptor).st_size
        if name.endswith(".writing"):
            with open(f"/proc/self/fd/{descriptor}", "rb") as stream:  # noqa: PTH123
                table = stream.read(13) == b"example_index"
            name += " for the table" if table else ""
            if self.dies(f"half of a fsync of {name}"):
                os.truncate(f"/proc/self/fd/{descriptor}", size // 2)
                self._die()
        self._fsync(descriptor)
        if self.dies(f"after a fsync of {name}"):
            self._die()

    def replace(self, source: str, target: str) -> None:
        """A rename."""
        self._replace(source, target)
        if self.dies(f"after a rename to {_short(str(target))}"):
            self._die()

    def unlink(self, path: str) -> None:
        """A file taken away."""
        self._unlink(path)
        if self.dies(f"after the end of {_short(str(path))}"):
            self._die()


def _short(path: str) -> str:
    file = Path(path)
    return f"{file.parent.name}/{file.name}" if file.parent.name == "step_logs" else file.name


def fork() -> int:
    """Forks this process, which must have no other thread: a lock that one holds would stay taken in the child."""
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"a process of {len(threads)} threads can't be forked"
    return os.fork()


class Forked:
    """A child of this process that does something.

    Its words go through a pipe: a limit on the size of its files is none on them.

    Args:
        work: What it does; the result is its exit code.
        output: The file for its words.
    """

    def __init__(self, work: Callable[[], int], output: Path) -> None:
        with output.open("ab") as stream:
            self._words = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=stream)
        assert self._words.stdin is not None
        self.pid = fork()
        if self.pid:
            self._words.stdin.close()
            return
        code = 70
        try:
            os.dup2(self._words.stdin.fileno(), 1)
            os.dup2(self._words.stdin.fileno(), 2)
            sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)  # a test's are elsewhere
            code = work()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else code
        finally:
            os._exit(code)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def ended(self) -> int:
        """Waits for its end: its exit code, or minus the signal that ended it."""
        _, status = os.waitpid(self.pid, 0)
        self._words.wait()
        return os.waitstatus_to_exitcode(status)


@contextlib.contextmanager
def started(argv: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a process of its own, which ends with the block at the latest; its words go into a file."""
    with output.open("wb") as stream:
        program = subprocess.Popen([sys.executable, "-m", "lightning_app", *argv], stdout=stream, stderr=stream)
    try:
        yield program
    finally:
        program.kill()
        program.wait()


def finished_rows(folder: Path) -> int:
    """Rows of a study's table, whole or not."""
    with contextlib.suppress(FileNotFoundError):
        return max(0, (folder / RESULTS).read_bytes().count(b"\n") - 1)
    return 0


def trained_steps(folder: Path) -> int:
    """Steps of all examples of a study."""
    from lightning_app.store.study_log import read_study

    study = read_study(folder)
    return 0 if study is None else sum(stored.line.steps for stored in study.examples.values())


def contents(folder: Path) -> dict[str, bytes]:
    """All that has to be the same, by name: the table without `seconds`, logs, picture, summary without times."""
    files = {f"step_logs/{file.name}": file.read_bytes() for file in (folder / "step_logs").iterdir()}
    files["table"] = b"".join(
        line.rpartition(b",")[0] + b"\n" for line in (folder / RESULTS).read_bytes().split(b"\n") if line
    )
    files["picture"] = (folder / "steps_vs_difficulty.png").read_bytes()
    summary = json.loads((folder / "training_summary.json").read_text())
    del summary["timing"]
    files["summary"] = json.dumps(summary, indent=1).replace(str(folder.parent), "OUT").encode()
    return files


class Torture:
    """A study that is made twice: once undisturbed, once with kills.

    Args:
        flags: Of `run`, without sizes and place.
        model: The name of the study's folder.
        work: A folder for both.
        examples: The sample at first, and after it has grown.
        limits: The most steps at first, and then.
        seed: Of the kills.
    """

    def __init__(
        self,
        flags: Sequence[str],
        model: str,
        work: Path,
        examples: tuple[int, int],
        limits: tuple[int, int],
        seed: int,
    ) -> None:
        self.flags = flags
        self.model = model
        self.work = work
        self.examples = examples
        self.limits = limits
        self.random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.attempts = 0

    def argv(self, place: str, stage: int) -> list[str]:
        """The command of a stage: small, grown, with more steps."""
        sizes = ["--max_examples", str(self.examples[min(stage, 1)])]
        sizes += ["--max_steps_per_example", str(self.limits[max(0, stage - 1)])]
        return ["run", *self.flags, *sizes, "--output_dir", str(self.work / place)]

    def start(self, place: str, stage: int, before: Callable[[], object] = lambda: None) -> Forked:
        """Starts a stage in a child."""

        def work() -> int:
            from lightning_app.cli import main

            before()
            return main(self.argv(place, stage))

        self.attempts += 1
        return Forked(work, self.work / f"{place}.out")

    def folder(self, place: str) -> Path:
        """The study's folder."""
        return self.work / place / self.model

    def kill_at(self, stage: int, point: str, count: int, until_the_end: bool = False) -> bool:
        """Starts a stage and lets it die at the so manyth time of an operation, or at the end of its second example.

        Returns:
            Whether it died.
        """
        note = self.work / "point"
        left = {point: count} if until_the_end else {"after its flush": 2} | {point: count}

        def dies(operation: str) -> bool:
            for name in left:
                left[name] -= operation.startswith(KILL_POINTS[name])
                if left[name] == 0:
                    note.write_text(name)
                    return True
            return False

        code = self.start("killed", stage, lambda: Killer(dies)).ended()
        return self._count(code, note.read_text() if code == -signal.SIGKILL else "")

    def kill_after(self, stage: int, seconds: float) -> bool:
        """Starts a stage and kills it so long after its first commit; whether it was still alive."""
        before = trained_steps(self.folder("killed"))
        child = self.start("killed", stage)
        while trained_steps(self.folder("killed")) <= before and child.is_alive():
            time.sleep(0.005)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        return self._count(child.ended(), "at any time between two commits")

    def _count(self, code: int, point: str) -> bool:
        if code == -signal.SIGKILL:
            self.kills[point] += 1
            return True
        if code != 0:
            sys.exit(f"an attempt ended with {code}:\n{(self.work / 'killed.out').read_text()[-3000:]}")
        return False

    def run(self, kills: int) -> list[str]:
        """Makes the study twice.

        Returns:
            The files that differ.
        """
        assert self.start("undisturbed", 2).ended() == 0, (self.work / "undisturbed.out").read_text()
        for stage in range(3):
            quota = max(0, kills - 9) * (stage + 1) // 3 + 3 * stage
            while self.kills.total() < quota and self._left(stage):
                self._once(stage)
            # The end again, and again, as if it had not been: each leaves another part of the exports to be made.
            for point in THE_END:
                (self.folder("killed") / "training_summary.json").unlink(missing_ok=True)
                self.kill_at(stage, point, 2 if "table" in point else 1, until_the_end=True)
            assert self.start("killed", stage).ended() == 0
        expected, found = contents(self.folder("undisturbed")), contents(self.folder("killed"))
        return sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))

    def _left(self, stage: int) -> int:
        """Examples that a stage has still to train, as `status` says."""
        from lightning_app.store.status import status_of

        argv = self.argv("killed", stage)
        with contextlib.suppress(ValueError):
            status = status_of(self.folder("killed"))
            if [str(status.examples), str(status.max_steps_per_example)] == [argv[-5], argv[-3]]:
                return status.left
        return self.examples[1]

    def _once(self, stage: int) -> None:
        """One kill, drawn. Mostly such as cost the study its example, so that it doesn't end before the kills do."""
        left = self._left(stage)
        if left > 3 and self.random.random() < 0.2:
            self.kill_after(stage, self.random.random() / 3)
            return
        if left <= 3 or self.random.random() < 0.6:
            points = list(COSTS_NOTHING)
        else:
            points = [point for point in KILL_POINTS if point not in (*COSTS_NOTHING, *THE_END)]
        self.kill_at(stage, self.random.choice(points), 1)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of a few kilobytes, where this process may mount one."""
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fails_clearly(torture: Torture, place: str, meanwhile: Callable[[int], object]) -> str:
    """Lets a study fail, and looks at what it says.

    Args:
        torture: Whose study.
        place: Where.
        meanwhile: What happens to it while it runs; gets its process id.

    Returns:
        Its last line.
    """
    child = torture.start(place, 2)
    meanwhile(child.pid)
    code = child.ended()
    printed = (torture.work / f"{place}.out").read_text()
    last = printed.strip().splitlines()[-1]
    assert code == 1, printed
    assert "Traceback" not in printed, printed
    assert "can't be written: " in last, last
    return last


def goes_on(torture: Torture, place: str) -> None:
    """Starts a study again and compares it with the undisturbed one."""
    assert torture.start(place, 2).ended() == 0, (torture.work / f"{place}.out").read_text()
    assert contents(torture.folder(place)) == contents(torture.folder("undisturbed"))


def wait_for_rows(folder: Path, rows: int) -> None:
    """Waits until a study has come so far."""
    give_up = time.monotonic() + 120
    while finished_rows(folder) < rows and time.monotonic() < give_up:
        time.sleep(0.005)


def full_disk(torture: Torture) -> str:
    """A disk that is full in the middle of a study, and then is not."""
    place, kilobytes = "full", 8 * torture.examples[1]  # a step log and a curve take a block of 4 kB each
    try:
        with small_disk(torture.work / place, kilobytes):
            told = fails_clearly(torture, place, lambda child: None)
            rows = finished_rows(torture.folder(place))
            more = ["mount", "-o", "remount,size=64m", str(torture.work / place)]
            subprocess.run(more, check=True, capture_output=True)
            goes_on(torture, place)
        return f"full disk ({kilobytes} kB) after {rows} rows, then complete and equal: {told}"
    except subprocess.CalledProcessError as error:
        return f"full disk: NOT RUN, this process may not mount one ({error.stderr.decode().strip()})"


def size_limit(torture: Torture) -> str:
    """A limit on the size of files that cuts the log in the middle of a line, and then is gone."""
    place = "limited"
    table = torture.folder(place) / STORE

    def limit(child: int) -> None:
        wait_for_rows(torture.folder(place), torture.examples[1] // 2)
        size = table.stat().st_size + 60  # a line is longer
        resource.prlimit(child, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    told = fails_clearly(torture, place, limit)
    assert table.read_bytes().endswith(b"\n"), "a part of a line was left behind"
    rows = finished_rows(torture.folder(place))
    goes_on(torture, place)
    return f"files limited in size after {rows} rows, then complete and equal: {told}"


def read_only(torture: Torture, name: str) -> str:
    """A folder of the study that turns read-only in the middle of it, and then is not."""
    place = f"read_only_{name or 'study'}"
    folder = torture.folder(place) / name
    (torture.work / place).mkdir(mode=0o555)
    if os.access(torture.work / place, os.W_OK):
        return "read-only: NOT RUN, permissions don't bind this process"
    (torture.work / place).chmod(0o755)

    def turn(child: int) -> None:
        wait_for_rows(torture.folder(place), 2)
        folder.chmod(0o555)

    told = fails_clearly(torture, place, turn)
    rows = finished_rows(torture.folder(place))
    folder.chmod(0o755)
    goes_on(torture, place)
    return f"{name or 'its folder'} read-only after {rows} rows, then complete and equal: {told}"


def vanished(torture: Torture) -> str:
    """A folder that is moved away in the middle of a study, and then put back."""
    place = "vanished"
    away = torture.work / "away"

    def take(child: int) -> None:
        wait_for_rows(torture.folder(place), 2)
        torture.folder(place).rename(away)

    told = fails_clearly(torture, place, take)
    assert not (torture.folder(place) / RESULTS).exists()
    if torture.folder(place).exists():
        shutil.rmtree(torture.folder(place))
    away.rename(torture.folder(place))
    rows = finished_rows(torture.folder(place))
    goes_on(torture, place)
    return f"moved away after {rows} rows, put back, then complete and equal: {told}"


DISASTERS: dict[str, Callable[[Torture], str]] = {
    "size_limit": size_limit,
    "read_only_logs": lambda torture: read_only(torture, "step_logs"),
    "read_only_study": lambda torture: read_only(torture, ""),
    "vanished": vanished,
    "full_disk": full_disk,
}


def main() -> None:
    """Tortures the study that the flags after `--` describe, the demo's by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--examples", type=int, nargs=2, default=(20, 40), help="at first, and grown")
    parser.add_argument("--limits", type=int, nargs=2, default=(40, 80), help="most steps at first, and then")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--disasters", nargs="*", choices=DISASTERS, default=list(DISASTERS))
    parser.add_argument("--model", default="digits_mambaout", help="the name of the study's folder")
    own, flags = sys.argv[1:], ["--config", "digits"]
    if "--" in own:
        own, flags = own[: own.index("--")], own[own.index("--") + 1 :]
    options = parser.parse_args(own)
    if os.geteuid() == 0 and os.environ.pop("BOUND_BY_PERMISSIONS", None) is None and shutil.which("setpriv"):
        os.environ["BOUND_BY_PERMISSIONS"] = "yes"
        setpriv = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        os.execvp("setpriv", [*setpriv, sys.executable, "-m", "tests.torture", *sys.argv[1:]])
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy would start threads when it is imported
    import lightning_app.commands.run
    import lightning_app.study.run  # noqa: F401

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as work:
        torture = Torture(flags, options.model, Path(work), options.examples, options.limits, options.seed)
        differing = torture.run(options.kills)
        for point, count in sorted(torture.kills.items()):
            print(f"{count:>4} kills {point}")
        print(
            f"{torture.kills.total():>4} kills in {torture.attempts} attempts of a study of {options.examples[1]}"
            f" examples; files that differ from the undisturbed study's: {', '.join(differing) or 'none'}"
        )
        if differing:
            sys.exit(1)
        for name in options.disasters:
            print(DISASTERS[name](torture))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
