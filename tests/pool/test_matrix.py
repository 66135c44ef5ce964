from pathlib import Path

import numpy as np
import pytest

from lightning_app.errors import BadInputError
from lightning_app.pool.matrix import Pool, read_pool, write_pool

CORRECT = np.array([[1, 1, 0, 1], [1, 0, 1, 0], [0, 0, 1, 0]], dtype=np.uint8)
LOSSES = np.arange(12, dtype=np.float32).reshape(3, 4)
POOL = Pool(Path(), ("big", "middle", "small"), ("a/1.png", 'b/2, "odd".png', "c/3.png", "d/4.png"), CORRECT, LOSSES)
HERE = Path()


def test_what_is_written_is_read_back() -> None:
    write_pool(HERE, POOL)
    read = read_pool(HERE, None, None)
    assert (read.names, read.paths, read.labels, read.remarks) == (POOL.names, POOL.paths, None, ())
    assert np.array_equal(read.correct, CORRECT)
    assert np.array_equal(np.asarray(read.losses), LOSSES)
    assert Path("models.csv").read_text() == "big,middle,small\n"
    assert np.load("correctness.npy").dtype == np.uint8


def test_labels_go_along() -> None:
    write_pool(HERE, Pool(HERE, POOL.names, POOL.paths, CORRECT, LOSSES, (3, 1, 0, 2)))
    assert read_pool(HERE, None, None).labels == (3, 1, 0, 2)


def test_the_matrix_is_there_only_with_all_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    write_pool(HERE, POOL)
    written: list[str] = []

    def stop_at_the_list(file: Path, data: bytes) -> None:
        assert not Path("correctness.npy").exists()
        written.append(file.name)
        if file.name == "examples.csv":
            raise KeyboardInterrupt

    monkeypatch.setattr("lightning_app.pool.matrix.write_atomic", stop_at_the_list)
    with pytest.raises(KeyboardInterrupt):
        write_pool(HERE, POOL)
    assert written == ["losses.npy", "models.csv", "examples.csv"]


def test_a_published_matrix_and_list_alone_are_enough() -> None:
    np.save("m.npy", CORRECT.astype(np.float64))
    Path("list.csv").write_text("big,middle")
    pool = read_pool(Path("m.npy"), Path("list.csv"), None)
    assert (pool.names, pool.losses) == (("big", "middle"), None)
    assert pool.paths == ("column_0", "column_1", "column_2", "column_3")
    assert pool.correct.shape == (2, 4)
    assert "has 3 rows and list.csv has 2 names: the first 2 rows are theirs" in pool.remarks[0]
    assert "there is no examples.csv beside the matrix" in pool.remarks[1]


def test_paths_in_another_order_and_empty_places_find_their_columns() -> None:
    write_pool(HERE, POOL)
    Path("order.csv").write_text("path,rank\nw.png,4\n,1\nx.png,2\nz.png,1\n")  # sorted by rank, placed by line
    pool = read_pool(HERE, None, Path("order.csv"))
    assert pool.paths == ("w.png", "x.png", "z.png")
    assert np.array_equal(pool.correct, CORRECT[:, [0, 2, 3]])
    assert pool.losses is not None
    assert np.array_equal(pool.losses, LOSSES[:, [0, 2, 3]])
    assert pool.remarks == ("1 columns have no path and are left out",)


def test_a_part_of_the_pool() -> None:
    assert POOL.of_models([], []) is POOL
    part = POOL.of_models(["small", "local-dir:/somewhere/big"], [])
    assert part.names == ("small", "big")
    assert np.array_equal(part.correct, CORRECT[[2, 0]])
    assert part.losses is not None
    assert np.array_equal(part.losses, LOSSES[[2, 0]])
    assert POOL.of_models([], ["middle"]).names == ("big", "small")


@pytest.mark.parametrize(
    ("models", "without", "message"),
    [
        (["bigg"], [], r"--models: 'bigg' is not in .* \(3 models\); near names: big"),
        ([], ["tiny"], r"--without: 'tiny' is not in"),
        (["big"], ["small"], r"--without small: it is not among --models"),
        ([], ["big", "middle", "small"], r"--without: none of the pool's 3 models is left"),
    ],
)
def test_a_part_that_is_not_there_is_refused(models: list[str], without: list[str], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        POOL.of_models(models, without)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("correctness.npy", CORRECT[:, :3], r"has 3 columns, but examples.csv has 4 places"),
        ("correctness.npy", CORRECT[:2], r"has 2 rows, but models.csv has 3 names"),
        ("correctness.npy", CORRECT + 1, r"row 0 holds 2: every value must be 0 \(wrong\) or 1 \(right\)"),
        ("correctness.npy", np.zeros((3, 0)), r"has shape \(3, 0\)"),
        ("losses.npy", LOSSES[:2], r"losses.npy has shape \(2, 4\), the matrix \(3, 4\)"),
        ("models.csv", "a,b,a", r"models.csv holds 'a' more than once"),
        ("examples.csv", "a\nb\na\nc\n", r"holds 'a' twice"),
    ],
)
def test_files_that_do_not_fit_are_refused(name: str, content: object, message: str) -> None:
    write_pool(HERE, POOL)
    Path("losses.npy").unlink()
    if isinstance(content, str):
        Path(name).write_text(content)
    else:
        np.save(name, np.asarray(content))
    with pytest.raises(BadInputError, match=message):
        read_pool(HERE, None, None)


def test_a_folder_without_a_matrix_is_a_clear_error() -> None:
    with pytest.raises(BadInputError, match=r"holds no correctness.npy: expected a folder that evaluate has finished"):
        read_pool(HERE, None, None)
