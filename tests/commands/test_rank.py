import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_app.cli import main
from lightning_app.data.ranking import read_ranking
from lightning_app.pool.matrix import Pool, write_pool

NAMES = ("good", "fair", "poor", "odd")
PATHS = tuple(f"c{i % 3}/{i:02}.png" for i in range(30))


@pytest.fixture
def pool() -> Path:
    chance = np.random.default_rng(1)
    ease = chance.normal(size=30)
    losses = np.log1p(np.exp(chance.normal(size=(4, 30)) - ease)).astype(np.float32)
    folder = Path("pool")
    folder.mkdir()
    write_pool(folder, Pool(folder, NAMES, PATHS, (losses < np.log(2)).astype(np.uint8), losses))
    return folder


def order(file: str) -> list[str]:
    return [entry.path for entry in read_ranking(Path(file)).paths]


def test_a_pool_becomes_a_table_a_line_and_figures(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "pool"]) == 0
    out = capsys.readouterr().out
    assert sorted(order("pool/ranking.csv")) == sorted(PATHS)
    assert order("pool/ranking_line.csv") == order("pool/ranking.csv")
    assert "\n" not in (pool / "ranking_line.csv").read_text().strip()
    figures = json.loads((pool / "ranking.json").read_text())
    assert figures["models"] == list(NAMES)
    assert 0 < figures["reliability"]["split_half"] < figures["reliability"]["reliability"] < 1
    assert figures["reliability"]["ceiling"] == pytest.approx(figures["reliability"]["reliability"] ** 0.5)
    assert "30 images, ranked by the share of 4 models that get them wrong" in out
    assert f"Spearman {figures['reliability']['split_half']:.3f}" in out
    assert "30 of 30 images have as many models wrong as another image has: ordered by mean loss, then by path" in out
    assert "pool/ranking.csv, pool/ranking_line.csv, pool/ranking.json" in out


def test_it_is_the_same_every_time_and_says_what_it_replaces(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "pool"]) == 0
    before = {f.name: f.read_bytes() for f in pool.iterdir()}
    assert main(["rank", "pool"]) == 0
    assert {f.name: f.read_bytes() for f in pool.iterdir()} == before
    assert "replaced" not in capsys.readouterr().err
    assert main(["rank", "pool", "--models", "good", "--output_csv", "pool/ranking.csv"]) == 0
    assert "warning: pool/ranking.csv was another ranking and is replaced" in capsys.readouterr().err


def test_a_model_is_left_out_of_its_own_ranking(pool: Path) -> None:
    assert main(["rank", "pool", "--without", "odd"]) == 0
    assert main(["rank", "pool", "--models", "poor,good,fair", "--output_csv", "three.csv"]) == 0
    assert Path("pool/ranking_without_odd.csv").read_text() == Path("three.csv").read_text()
    assert json.loads(Path("pool/ranking_without_odd.json").read_text())["without"] == ["odd"]
    assert not Path("pool/ranking.csv").exists()
    assert main(["rank", "pool", "--models", "good,fair"]) == 0
    assert order("pool/ranking_subset.csv") != order("three.csv")


def test_a_published_matrix_and_list_alone(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    matrix = np.load(pool / "correctness.npy")
    np.save("m.npy", np.vstack([matrix, matrix[:1]]).astype(np.float32))
    assert main(["rank", "m.npy", "--imagenet_models_csv", "pool/models.csv"]) == 0
    assert "warning: the matrix m.npy has 5 rows and pool/models.csv has 4 names" in capsys.readouterr().err
    by_place = [int(path.removeprefix("column_")) for path in order("ranking.csv")]
    assert matrix.sum(axis=0)[by_place].tolist() == sorted(matrix.sum(axis=0).tolist(), reverse=True)
    examples = ["--matrix_examples_csv", "pool/examples.csv", "--output_csv", "named.csv"]
    assert main(["rank", "m.npy", "--imagenet_models_csv", "pool/models.csv", *examples]) == 0
    assert sorted(order("named.csv")) == sorted(PATHS)


def test_what_is_left_out_is_added_up(pool: Path) -> None:
    assert main(["rank", "pool", "--without", "odd", "--without", "good,fair"]) == 0
    assert json.loads(Path("pool/ranking_without_odd_good_fair.json").read_text())["models"] == ["poor"]


def test_two_rankings_are_compared_and_nothing_is_written(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", "pool"]) == 0
    Path("elsewhere.csv").write_text(",".join(f"/x/val/{path}" for path in order("pool/ranking.csv")[:20]))
    capsys.readouterr()
    before = sorted(Path().rglob("*"))
    assert main(["rank", "pool", "--against", "elsewhere.csv"]) == 0
    out = capsys.readouterr().out
    assert "20 images in common, joined by class folder and file name; 10 only in pool, 0 only in elsewhere.csv" in out
    assert "Spearman +1.00" in out
    assert "Of the easiest 10% of the one 100% are among the easiest 10% of the other, of the hardest 100%" in out
    assert main(["rank", "elsewhere.csv", "--against", "pool/ranking.csv"]) == 0
    assert main(["rank", "pool", "--without", "odd", "--against", "pool"]) == 0
    assert sorted(Path().rglob("*")) == before


def test_a_path_with_a_line_break_has_no_one_line_form(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pool / "ranking_line.csv").write_text("old")
    write_pool(pool, Pool(pool, ("a",), ("x\ny.png", "b.png"), np.array([[1, 0]], dtype=np.uint8)))
    (pool / "losses.npy").unlink()
    assert main(["rank", "pool"]) == 0
    assert (
        "a path can't stand in the one-line form (it has a line break in it), so there is none"
        in capsys.readouterr().err
    )
    assert not (pool / "ranking_line.csv").exists()
    assert order("pool/ranking.csv") == ["x\ny.png", "b.png"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nowhere"], "there is no nowhere"),
        (["."], "holds no correctness.npy: expected a folder that evaluate has finished"),
        (["pool", "--without", "god"], "--without: 'god' is not in pool/correctness.npy (4 models); near names: good"),
        (["pool", "--output_csv", "no/r.csv"], "--output_csv: there is no folder no"),
        (["pool", "--output_csv", "pool/examples.csv"], "is the pool's own file, choose another name"),
        (["pool", "--output_csv", "pool/models.csv"], "is the pool's own file, choose another name"),
        (["pool", "--output_csv", "pool/evaluate.csv"], "pool/evaluate.json is the pool's own file"),
        (["pool", "--output_csv", "r.json"], "--output_csv must be a file that ends in .csv, got r.json"),
        (["pool", "--output_csv", "."], "--output_csv must be a file that ends in .csv, got ."),
        (["pool", "--models", "good,local-dir:x/good"], "two of them are one model of pool/correctness.npy"),
        (["pool", "--against", "no.csv"], "--against: there is no no.csv"),
        (["pool", "--against", "pool", "--output_csv", "x.csv"], "--against only compares and writes nothing"),
        (["pool/models.csv", "--against", "pool"], "no image in common"),
        (["pool/models.csv", "--models", "good", "--against", "pool"], "is taken for a ranking"),
        (["pool/models.csv"], "is not a NumPy array of numbers"),
        (["pool", "--model", "good"], "--model is no option of rank; near names: models"),
    ],
)
def test_bad_input_is_one_clear_error(
    pool: Path, argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert main(["rank", *argv]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(Path().rglob("*")) == before


def test_it_needs_no_torch(pool: Path) -> None:
    rank = "import sys; from lightning_app.cli import main; assert main(['rank', 'pool']) == 0"
    program = f"{rank}; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False, capture_output=True).returncode == 0
