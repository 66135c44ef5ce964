from dataclasses import replace

import numpy as np

from lightning_app.analysis.load import Study
from lightning_app.analysis.summary import step_rankings_agree, summarize
from lightning_app.report.page import Table
from lightning_app.report.tables import as_text, tables
from tests.analysis.test_summary import study
from tests.report.test_text import follows


def made(*studies: Study) -> list[Table]:
    return tables(studies, [summarize(each) for each in studies], step_rankings_agree(studies))


def test_one_study_has_three() -> None:
    association, others, quintiles = made(follows())
    assert association.caption == "Steps against universal difficulty"
    rows = {row[0]: row for row in association.rows}
    assert list(rows) == ["ln 2", "  bootstrap", "0.1", "0.01"]  # a bootstrap below each
    line = summarize(follows()).at_epsilon
    found = line.association
    assert rows["0.01"][1:6] == (
        "60", "50", f"{found.tied}", f"{line.median_steps:g}",
        f"{found.spearman.value:+.2f} ({found.spearman.low:+.2f} to {found.spearman.high:+.2f})",
    )  # fmt: skip
    c = found.concordance
    assert rows["0.01"][7:] == (f"{c.value:.2f} ({c.low:.2f} to {c.high:.2f})", "< 0.001")
    assert [row[0] for row in others.rows] == ["ln 2", "0.1", "0.01"]
    assert others.rows[-1][2:5] == (line.like_epsilon.short(), f"{line.pearson.value:+.2f}", "50")
    assert len(quintiles.rows) == 5
    assert quintiles.rows[0][:2] == ("10 to 120", "12")


def test_a_line_without_the_diverged_and_one_clustered_by_class() -> None:
    chance = np.random.default_rng(0)
    steps = chance.integers(2, 90, 200).tolist()
    steps[7] = -1
    found = study(steps, diverged=(7,))
    found = replace(found, frame=found.frame.assign(label=np.arange(200.0) % 60))
    association = made(found)[0]
    last = association.rows[-4:]
    assert [row[0] for row in last] == ["0.01", "  bootstrap", "  clustered by 60 classes", "  without diverged"]
    assert (last[0][1], last[3][1]) == ("200", "199")
    assert last[2][5].startswith("(")


def test_what_is_undefined_says_why() -> None:
    association, others = made(study([5, 5, 5, 5]))
    assert "undefined" in association.rows[-1]
    assert "At 0.01, all: all have the same number of steps." in association.notes
    assert any("Given the initial loss, at 0.01: all have the same number of steps" in note for note in others.notes)


def test_several_studies_come_side_by_side_first() -> None:
    side, agreement, *rest = made(follows(), replace(follows(), name="other"))
    assert [row[0] for row in side.rows] == ["tiny", "other"]
    assert agreement.rows[0][:3] == ("tiny", "other", "60")
    assert [table.caption.split(":")[0] for table in rest] == ["tiny"] * 3 + ["other"] * 3
    assert any("the first the one to cite" in note for note in rest[0].notes)
    assert not any("the first the one to cite" in note for note in rest[3].notes)  # said once


def test_a_terminal_gets_columns() -> None:
    table = Table("What", ("name", "n"), (("a", "1"), ("long", "20")), ("a note " * 30,))
    title, head, first, second, *notes = as_text(table).splitlines()
    assert (title, head, first, second) == ("What", "name  n", "a     1", "long  20")
    assert max(map(len, notes)) <= 120
