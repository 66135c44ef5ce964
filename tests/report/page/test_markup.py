from lightning_app.report.page.content import Picture, Table
from lightning_app.report.page.markup import page_html

EVIL = "</title><script>alert(1)</script>\" onerror='x' $tables ${pictures}"


def test_every_text_is_escaped_and_no_placeholder() -> None:
    table = Table(EVIL, (EVIL, EVIL), ((EVIL, EVIL),), (EVIL,))
    html = page_html(
        "<h1>$title</h1>$paragraphs$tables$pictures", EVIL, [EVIL], [table], [Picture("a b.png", b"", EVIL)], 0, ""
    )
    assert "<script" not in html
    assert html.count("alert(1)") == 11
    assert html.count("onerror=&#x27;x&#x27; $tables ${pictures}") == 11
    assert 'src="report/a%20b.png"' in html


def test_columns_of_numbers_are_aligned_as_such() -> None:
    table = Table("t", ("a", "b", "c"), (("1", "0.5", "x"), ("2", "< 0.1", "2"), ("3", "-", "")))
    html = page_html("$tables", "", [], [table], [], 0, "")
    assert html.count('<td class="number">') == 3
    assert '<th scope="col" class="number">b</th>' in html


def test_what_is_empty_has_no_heading() -> None:
    assert page_html("$tables$pictures$studies", "", [], [], [], 0, "") == ""
