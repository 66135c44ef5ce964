"""Shards of one study put together: the folder that one run of the whole would have left."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lightning_app.cli import main
from lightning_app.data.example import Example
from lightning_app.settings import StudySettings
from lightning_app.store.lock import WriterLock
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import STORE, read_study
from lightning_app.study.prepare import part_of
from tests.engines.workers.studies import files

SHARDS = 5


@pytest.fixture(scope="module")
def flags(tiny_model: str, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    ranking = tmp_path_factory.mktemp("ranking") / "ranking.csv"
    ranking.write_text("\n".join(str(file.relative_to(photographs)) for file in sorted(photographs.glob("*/*.jpg"))))
    return [
        "run", "--model_name", tiny_model, "--examples_csv", str(ranking), "--root_dir", str(photographs),
        "--max_examples", "12", "--max_steps_per_example", "12", "--epsilon", "0.3", "--lr", "0.05",
        "--trainer.accelerator", "cpu",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def made(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole study, and its five shards."""
    place = tmp_path_factory.mktemp("made")
    assert main([*flags, "--output_dir", str(place / "whole")]) == 0
    for number in range(1, SHARDS + 1):
        shard = ["--shard", f"{number}/{SHARDS}", "--output_dir", str(place / "shards")]
        assert main([*flags, *shard]) == 0
    return place


@pytest.fixture
def shards(made: Path, in_a_folder_of_its_own: Path) -> list[str]:
    """Copies of the shards, in an order of no meaning."""
    shutil.copytree(made / "shards", "shards")
    return [str(folder) for folder in sorted(Path("shards").iterdir(), reverse=True)]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "single_example_results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_five_shards_are_the_single_run(made: Path, shards: list[str]) -> None:
    assert main(["merge", *shards]) == 0
    merged, whole = Path("shards/tiny"), made / "whole/tiny"
    assert files(merged) == files(whole)
    summaries = [json.loads((folder / "training_summary.json").read_text()) for folder in (merged, whole)]
    assert summaries[0].pop("timing")["steps"] == summaries[1].pop("timing")["steps"]
    places = [Path(summary["settings"].pop("output_dir")).name for summary in summaries]
    assert places == ["shards", "whole"]
    assert summaries[0] == summaries[1]
    names = [sorted(file.name for file in folder.iterdir() if ".log" not in file.name) for folder in (merged, whole)]
    assert names[0] == names[1]
    runs = [sorted(os.listdir(folder / "tensorboard")) for folder in (merged, whole)]
    assert runs[0] == runs[1]


def test_shards_are_interleaved_over_difficulty_and_none_is_in_two(made: Path) -> None:
    whole = [row["path"] for row in rows_of(made / "whole/tiny")]
    for number in range(1, SHARDS + 1):
        rows = rows_of(made / f"shards/tiny_shard_{number}_of_{SHARDS}")
        assert [row["path"] for row in rows] == whole[number - 1 :: SHARDS]
        assert [int(row["example_index"]) for row in rows] == list(range(len(rows)))


def test_the_merged_study_goes_on(flags: list[str], shards: list[str], made: Path) -> None:
    assert main(["merge", *shards]) == 0
    assert main([*flags, "--max_examples", "14", "--output_dir", "shards"]) == 0
    assert main([*flags, "--max_examples", "14", "--output_dir", "undisturbed"]) == 0
    assert files(Path("shards/tiny")) == files(Path("undisturbed/tiny"))


def test_it_goes_where_it_is_told_and_moves_what_is_there_aside(
    shards: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", *shards, "--output_dir", "elsewhere"]) == 0
    before = (Path("elsewhere/tiny") / "run.json").read_bytes()
    assert json.loads(Path("elsewhere/tiny/training_summary.json").read_text())["settings"]["output_dir"] == "elsewhere"
    assert yaml.safe_load(Path("elsewhere/tiny/config.yaml").read_text())["output_dir"] == "elsewhere"
    capsys.readouterr()
    assert main(["merge", *shards, "--output_dir", "elsewhere"]) == 0  # the same once more changes nothing
    assert len(list(Path("elsewhere").iterdir())) == 1
    assert main(["merge", *shards, "--output_dir", "elsewhere", "--overwrite"]) == 0
    assert (Path("elsewhere/tiny") / "run.json").read_bytes() == before
    assert len(list(Path("elsewhere").iterdir())) == 2


def test_another_study_is_not_merged_into(shards: list[str], made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(made / "whole", "elsewhere")
    before = (Path("elsewhere/tiny") / STORE).read_bytes()
    assert main(["merge", *shards, "--output_dir", "elsewhere"]) == 2
    assert "elsewhere/tiny holds a study already; --overwrite moves it aside" in capsys.readouterr().err
    assert (Path("elsewhere/tiny") / STORE).read_bytes() == before
    assert not list(Path("elsewhere/tiny").glob("*.writing"))


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_merge_that_is_killed_is_done_again(
    made: Path, shards: list[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Here with the whole command; `tests/store/kills.py` kills it at every operation."""

    class Killed(BaseException):
        pass

    install = StudyFolder.install

    def die(self: StudyFolder, lines: Iterable[bytes]) -> None:
        if where == "after":
            install(self, lines)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(StudyFolder, "install", die)
        with pytest.raises(Killed):
            main(["merge", *shards])
    assert main(["merge", *shards]) == 0
    assert files(Path("shards/tiny")) == files(made / "whole/tiny")


def shard(number: int, of: int = SHARDS) -> Path:
    return Path(f"shards/tiny_shard_{number}_of_{of}")


def change_lines(number: int, change: Callable[[dict[str, Any]], object]) -> Callable[[], None]:
    """Changes every line of a shard's log."""

    def work() -> None:
        lines = [json.loads(line) for line in (shard(number) / STORE).read_text().splitlines()]
        for line in lines:
            change(line)
        (shard(number) / STORE).write_text("".join(json.dumps(line) + "\n" for line in lines))

    return work


def change(number: int, kind: str, key: str, value: object) -> Callable[[], None]:
    """Changes one value of the lines of a kind."""

    def put(line: dict[str, Any]) -> None:
        if line["kind"] == kind:
            *way, last = key.split(".")
            holder = line
            for step in way:
                holder = holder[step]
            holder[last] = value

    return change_lines(number, put)


def drop_last_line() -> None:
    file = shard(2) / STORE
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))


def rename_paths(line: dict[str, Any]) -> None:
    if line["kind"] == "target":
        line["examples"] = [[rank, path.replace("/", "//")] for rank, path in line["examples"]]
    elif line["kind"] == "example":
        line["path"] = line["path"].replace("/", "//")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: shutil.rmtree(shard(3)), "shards/tiny_shard_3_of_5 holds no shard that can be read: there is no such"),
        (lambda: shutil.copytree(shard(4), "twin"), "shard 4 of 5 is there twice: .* and twin|twin and .*"),
        (drop_last_line, r"shard_2_of_5 is not complete: 1 of its \d examples are left; rerun its own command to res"),
        (change(2, "study", "identity.epsilon", 0.2), r"2_of_5 is of another study than .*: epsilon is 0.3 in .*, 0.2"),
        (change(2, "target", "shard.sample_sha256", "x"), r"2_of_5 is a shard of another sample than .*sample_sha256"),
        (change(2, "target", "shard.of", 6), r"shard_2_of_5 is a shard of another sample than .*: of is 5 in .*, 6 in"),
        (change(2, "target", "shard", None), "shard_2_of_5 is no shard, but a whole study"),
        (change(2, "target", "shard.of", "many"), "shard_2_of_5 holds no shard that can be read: study.jsonl, line 3"),
        (change(2, "target", "max_steps_per_example", 11), "shard_2_of_5 is a shard of another .*max_steps is 12 in"),
        (change(2, "environment", "environment.torch", "1.0"), r"several environments: torch was .*--allow_mixed_env"),
        (change_lines(2, rename_paths), "don't have the sample that was drawn: one of them was changed"),
        (change(2, "command", "settings", {}), "shard_2_of_5 holds no shard that can be read: .*model_name"),
        (change(2, "command", "config", "a: [b"), "shard_2_of_5 holds no shard that can be read: "),
        (lambda: (shard(2) / STORE).unlink(), "a study of steps-to-epsilon|a study of an earlier version"),
    ],
)  # fmt: skip
def test_what_does_not_make_one_study_is_one_error_and_nothing_is_written(
    shards: list[str], spoil: Callable[[], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil()
    folders = [*shards, *(["twin"] if Path("twin").exists() else [])]
    assert main(["merge", *folders]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.count("\n") == 1
    assert not Path("shards/tiny").exists()


def test_a_shard_is_not_merged_into_itself(shards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    shard(1).rename("shards/tiny")
    assert main(["merge", "shards/tiny", *shards[:-1], "--overwrite"]) == 2
    assert "shards/tiny is one of the shards: choose another, or rename the shard" in capsys.readouterr().err
    assert len(rows_of(Path("shards/tiny"))) == 3


def test_missing_shards_are_named(shards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", shards[0], shards[2]]) == 2
    assert "3 of 5 shards missing: --shard 1/5, 2/5, 4/5" in capsys.readouterr().err


def test_a_shard_that_is_being_written_is_not_merged(shards: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lock = WriterLock(shard(2))
    assert main(["merge", *shards]) == 2
    lock.release()
    assert "tiny_shard_2_of_5: a run is writing to it; wait for its end" in capsys.readouterr().err


def test_rows_of_several_environments_are_merged_where_that_is_allowed(shards: list[str]) -> None:
    change(2, "environment", "environment.torch", "1.0")()
    assert main(["merge", *shards, "--allow_mixed_environment"]) == 0
    study = read_study(Path("shards/tiny"))
    assert study is not None
    here, elsewhere = study.environments_in_use
    assert (elsewhere["torch"], elsewhere.keys()) == ("1.0", here.keys())
    of_the_other = sorted(path for path, stored in study.examples.items() if stored.line.environment == 2)
    assert of_the_other == sorted(row["path"] for row in rows_of(shard(2)))


def test_more_shards_than_examples_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*flags, "--shard", "1/13"]) == 2
    assert "--shard 1/13: the sample has 12 examples, too few for 13 shards" in capsys.readouterr().err


@pytest.mark.parametrize("of", [1, 2, 3, 7])
def test_every_example_is_in_one_shard(of: int) -> None:
    sample = [Example(i, f"{i}.jpg", Path(), 0, i + 1) for i in range(7)]
    parts = [part_of(sample, StudySettings(shard=f"{number}/{of}")) for number in range(1, of + 1)]
    assert sorted(example.path for part, _ in parts for example in part) == sorted(example.path for example in sample)
    assert max(len(part) for part, _ in parts) - min(len(part) for part, _ in parts) <= 1
    assert part_of(sample, StudySettings()) == (sample, None)
