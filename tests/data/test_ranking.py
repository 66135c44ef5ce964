import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_app.data.ranking import HEADER_WORDS, Ranking, read_names, read_ranking
from lightning_app.errors import BadInputError

# Text that a file of one path a line can hold: no line ends, and no text that stands for an empty place.
path_text = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: text not in ("None",) and not text.startswith("\ufeff")
)
one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> Ranking:
    file = tmp_path / "ranking.csv"
    file.write_bytes(text.encode(encoding))
    return read_ranking(file)


def paths_and_ranks(ranking: Ranking) -> list[tuple[str, float]]:
    return [(entry.path, entry.rank) for entry in ranking.paths]


PUBLISHED = "/home/projects/x/shared/imagenet512/val/n03404251/ILSVRC2012_val_00044196.JPEG"


@pytest.mark.parametrize(
    "text",
    [
        f"{PUBLISHED},b.jpg,c.jpg",
        f"{PUBLISHED},b.jpg,c.jpg\n",
        f"{PUBLISHED},b.jpg,c.jpg\r\n",
        f"\ufeff{PUBLISHED},b.jpg,c.jpg",
        f'"{PUBLISHED},b.jpg,c.jpg"',
        f'\ufeff"{PUBLISHED},b.jpg,c.jpg"\r\n',
        f'"{PUBLISHED}","b.jpg",c.jpg',
        f"{PUBLISHED}\nb.jpg\nc.jpg",
        f"\ufeff{PUBLISHED}\r\nb.jpg\r\nc.jpg\r\n",
        f'"{PUBLISHED}"\nb.jpg\nc.jpg\n',
        f"path\n{PUBLISHED}\nb.jpg\nc.jpg\n",
        f"path,rank\nb.jpg,2\nc.jpg,3\n{PUBLISHED},1\n",
        f"{PUBLISHED}\rb.jpg\rc.jpg\r",
        f"path,rank\rb.jpg,2\rc.jpg,3\r{PUBLISHED},1\r",
        f"sep=,\r\npath,rank\r\nb.jpg,2\r\nc.jpg,3\r\n{PUBLISHED},1\r\n",
        f'rank,extra,path\r\n3,x,c.jpg\r\n1,"y,z",{PUBLISHED}\r\n2,,"b.jpg"\r\n',
    ],
)
def test_every_form_gives_the_same_ranking(tmp_path: Path, text: str) -> None:
    assert paths_and_ranks(read(tmp_path, text)) == [(PUBLISHED, 1), ("b.jpg", 2), ("c.jpg", 3)]


def test_excels_first_line_is_counted_as_a_line(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="line 4: rank must be a number"):
        read(tmp_path, "sep=,\npath,rank\na.jpg,1\nb.jpg,x\n")


def test_the_published_size_is_read_as_one_quoted_line(tmp_path: Path) -> None:
    paths = [f"/home/projects/x/val/n{i % 1000:08}/ILSVRC2012_val_{i:08}.JPEG" for i in range(50_000)]
    ranking = read(tmp_path, '"' + ",".join(paths) + '"')
    assert [entry.path for entry in ranking.paths] == paths
    assert ranking.paths[-1].rank == 50_000


@pytest.mark.parametrize("text", ["a,,None,b", "a\n\nNone\nb\n", 'path\na\n""\nNone\nb\n'])
def test_empty_entries_keep_their_place(tmp_path: Path, text: str) -> None:
    ranking = read(tmp_path, text)
    assert paths_and_ranks(ranking) == [("a", 1), ("b", 4)]
    assert ranking.places == 4
    assert [entry.place for entry in ranking.paths] == [0, 3]


def test_a_table_has_ties_gaps_and_labels(tmp_path: Path) -> None:
    ranking = read(tmp_path, "path,label,rank\nc,7,10\na,5,2.5\nb,6,2.5\n")
    assert [(e.path, e.rank, e.label, e.place) for e in ranking.paths] == [
        ("a", 2.5, 5, 1), ("b", 2.5, 6, 2), ("c", 10, 7, 0)]  # fmt: skip
    assert isinstance(ranking.paths[2].rank, int)


@given(st.lists(path_text, min_size=2, max_size=8, unique=True))
@one_file
def test_one_path_a_line_reads_back(tmp_path: Path, paths: list[str]) -> None:
    # A line in quotes is a CSV cell, and a first line with the cell `path` is a header: neither is a bare path.
    paths = [p for p in paths if not (p[0] == p[-1] == '"') and p.lower().strip() not in HEADER_WORDS]
    if re.search(r"[,;\t.]", paths[0]):
        return
    if len(paths) < 2:
        return
    assert [entry.path for entry in read(tmp_path, "\n".join(paths) + "\n").paths] == paths


@given(st.lists(path_text, min_size=1, max_size=8, unique=True))
@one_file
def test_a_table_reads_back(tmp_path: Path, paths: list[str]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("path", "label"), *((path, i) for i, path in enumerate(paths))])
    ranking = read(tmp_path, text.getvalue())
    assert [(entry.path, entry.label) for entry in ranking.paths] == [(path, i) for i, path in enumerate(paths)]


@given(st.text() | st.binary())
@one_file
def test_any_file_is_read_or_refused(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "any.csv"
    file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    try:
        ranking = read_ranking(file)
    except BadInputError:
        return  # one clear error is what bad input gets; any other exception fails the test
    assert all(entry.path not in ("", "None") for entry in ranking.paths)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no path"),
        ("\n\n", "holds no path"),
        ("None,,None", "holds no path"),
        ("path,rank\n", "holds no path"),
        ("a,b,a", r"holds 'a' twice, at places 1 and 3"),
        ("path,rank\na,first\n", r"line 2: rank must be a number from 1 \(easiest\), got 'first'"),
        ("path,rank\na,nan\n", "got 'nan'"),
        ("path,rank\na,0\n", "got '0'"),
        ("path,rank\na,40000000000000000000\n", "got '40000000000000000000'"),  # the log could not be read back
        ("rank,file\n3,/a/cat/0001.jpg\n", "the header 'rank,file' has no column `path`"),
        ("image\n/a/cat/0001.jpg\n", "the header 'image' has no column `path`"),
        ("Path;Rank\n/a/0001.jpg;1\n", "has no column `path`"),
        ("/a/1.jpg,/a/2.jpg\n/a/3.jpg\n", "line 1 holds 2 paths: give one a line, or all on one line"),
        ("path,label\na,cat\n", r"line 2: label must be a class index, got 'cat'"),
        ("path,label\na,-1\n", "got '-1'"),
        ("path,label\na,1.5\n", "got '1.5'"),
        ("path,label\na\n", "line 2: 1 cells under a header of 2"),
        ('path,label\n"a,1\n', "can't be read as CSV"),
    ],
)
def test_bad_rankings_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read(tmp_path, text)


def test_a_missing_ranking_says_where_the_published_one_is_from(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"universal-learning project's imagenet_examples_ammended.csv"):
        read_ranking(tmp_path / "no.csv")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is not UTF-8 text: byte 0"):
        read(tmp_path, "a,b", "utf-16")


def test_model_names_are_a_list_of_the_same_form() -> None:
    assert read_names("resnet_34,vit_b\n") == read_names('"resnet_34,vit_b"') == read_names("resnet_34\nvit_b\n")


LONG_CELL = '"' + "a" * 140_000 + '","b'


def test_a_cell_that_csv_refuses_for_its_length_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="can't be read as CSV: field larger than field limit"):
        read(tmp_path, LONG_CELL)
