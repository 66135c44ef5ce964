"""The page as a reader has it: from disk, without a network, in Debian's Chromium."""

import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_app.report.page import StudyOnPage, write_page
from tests.report.making import CLASSES, FORMULAS, HOSTILE, TABLES, frame, picture, study

playwright = pytest.importorskip("playwright.sync_api", reason="playwright, which drives a browser, is not installed")

pytestmark = pytest.mark.slow

FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NO_WEBGL = ["--disable-gpu", "--disable-3d-apis"]
SOFTWARE_WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SMALL = 120
LARGE = 20_000

Open = Callable[..., Any]


def _launch(run: Any, flags: list[str]) -> Any:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    return run.chromium.launch(executable_path=program, args=[*FLAGS, *flags])


@pytest.fixture(scope="module")
def run() -> Iterator[Any]:
    with playwright.sync_playwright() as run:
        yield run


@pytest.fixture(scope="module")
def browser(run: Any) -> Iterator[Any]:
    browser = _launch(run, NO_WEBGL)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def webgl_browser(run: Any) -> Iterator[Any]:
    browser = _launch(run, SOFTWARE_WEBGL)
    yield browser
    browser.close()


def _page(folder: Path, studies: list[StudyOnPage]) -> Path:
    write_page(folder, "Title <script>alert(0)</script>", ["Words & <b>."], TABLES, [picture(folder)], studies, False)
    return folder / "report.html"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of 120 examples, half of them with images, the first with hostile names."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "images").mkdir()
    return _page(
        folder, [study(frame(SMALL), folder / "images", 'study, with "quotes" </script><img src=x onerror=alert(7)>')]
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty thousand examples."""
    folder = tmp_path_factory.mktemp("large")
    names = {index: f"class {index}" for index in range(1000)}
    examples = frame(LARGE)
    examples["label"] = examples["example_index"] % 1000
    return _page(folder, [study(examples, class_names=names, limit=1000)])


@pytest.fixture(scope="module")
def wrong() -> list[str]:
    """What must not happen on any page: errors, dialogs, requests beyond the disk."""
    return []


@pytest.fixture(autouse=True)
def nothing_wrong(wrong: list[str]) -> Iterator[None]:
    """Fails the test in which it happened."""
    yield
    found, wrong[:] = list(wrong), []
    assert found == []


@pytest.fixture(scope="module")
def open_for_all(browser: Any, wrong: list[str]) -> Open:
    """Opens a page without a network; it stays open."""

    def dialog(shown: Any) -> None:
        wrong.append(f"dialog: {shown.message}")
        shown.dismiss()

    def request(asked: Any) -> None:
        if not asked.url.startswith(("file:", "data:", "blob:")):
            wrong.append(asked.url)

    def open_page(file: Path, browser: Any = browser, whole: bool = True, **how: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce", **how})
        context.set_offline(True)
        context.set_default_timeout(60_000)  # as slow as two shared cores may be
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("requestfailed", lambda asked: wrong.append(f"failed: {asked.url}"))
        page.on("dialog", dialog)
        page.on("request", request)
        page.goto(file.as_uri())
        if whole:
            page.wait_for_selector("#examples tbody tr")
        return page

    return open_page


@pytest.fixture
def open_page(open_for_all: Open) -> Iterator[Open]:
    """Opens a page that is closed after the test."""
    contexts = []

    def open_page(*args: Any, **how: Any) -> Any:
        page = open_for_all(*args, **how)
        contexts.append(page.context)
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def opened(open_for_all: Open, small: Path) -> Any:
    """The small page, opened once: plotly takes seconds to load on a slow machine."""
    return open_for_all(small)


@pytest.fixture
def page(opened: Any) -> Any:
    """The small page without filters and picks, sorted by rank."""
    opened.evaluate(
        """() => {
            const at = (id) => document.getElementById(id);
            for (const box of document.querySelectorAll('#outcomes input')) box.checked = true;
            at('class').value = '-1';
            at('path').value = '';
            at('class').dispatchEvent(new Event('change'));
            const headers = [...document.querySelectorAll('#examples th button')];
            for (const name of ['Index', 'Rank']) headers.find((button) => button.textContent.includes(name)).click();
            for (const id of ['clear', 'release', 'all-in-view']) at(id).click();
            document.querySelector('[name=drag][value=zoom]').click();
            document.activeElement.blur();
        }"""
    )
    opened.mouse.move(5, 5)
    return opened


def _place(page: Any, number: int) -> tuple[float, float]:
    """Where on the screen plotly has an example, by plotly's own axes."""
    page.locator("#plot").scroll_into_view_if_needed()
    x, y = page.evaluate(
        """(number) => {
            const plot = document.getElementById('plot'), box = plot.getBoundingClientRect();
            const e = StepsReport.examples[number], { xaxis, yaxis } = plot._fullLayout;
            return [box.left + xaxis._offset + xaxis.d2p(e.x), box.top + yaxis._offset + yaxis.d2p(e.rank)];
        }""",
        number,
    )
    return x, y


def _hover(page: Any, number: int) -> None:
    x, y = _place(page, number)
    page.mouse.move(x - 3, y - 3)
    page.mouse.move(x, y, steps=2)
    _wait_for_card(page, number)


def _wait_for_card(page: Any, number: int) -> None:
    page.wait_for_function(
        "(n) => document.getElementById('card-path').textContent === StepsReport.examples[n].path", arg=number
    )


def _facts(page: Any) -> dict[str, str]:
    return dict(
        zip(
            page.locator("#metadata dt").all_text_contents(),
            page.locator("#metadata dd").all_text_contents(),
            strict=True,
        )
    )


def _column(page: Any, heading: str) -> list[str]:
    headings = [text.rstrip(" ▲▼") for text in page.locator("#examples th").all_text_contents()]
    place = headings.index(heading) + 1
    return list(page.locator(f"#examples tbody td:nth-child({place})").all_text_contents())


def _compact(content: object) -> str:
    return json.dumps(content, separators=(",", ":"))


def _curve_drawn(page: Any) -> None:
    page.wait_for_function("document.getElementById('curve').style.visibility === 'visible'")


def test_hover_shows_the_card(page: Any) -> None:
    examples = frame(SMALL)
    _hover(page, 100)
    metadata = _facts(page)
    assert metadata["True class"] == f"{CLASSES[1]} (1)"
    assert metadata["Predicted before"] == f"{CLASSES[2]} (2)"
    assert (metadata["Outcome"], metadata["Steps"]) == ("reached", f"{examples['steps'][100]:.0f}")
    assert metadata["Rank"] == f"{examples['universal_difficulty_rank'][100]:,}"
    assert float(metadata["Final loss"]) == float(f"{examples['final_loss'][100]:.3g}")
    page.wait_for_function("document.getElementById('thumbnail').naturalWidth === 32")
    _curve_drawn(page)
    assert page.evaluate("document.getElementById('curve').data[0].x.at(-1)") == 100
    assert page.evaluate("document.querySelector('#curve .js-line').getTotalLength()") > 50
    # Held by a click: crossing other points doesn't change the card.
    page.mouse.down()
    page.mouse.up()
    page.locator("#release").wait_for()
    page.mouse.move(*_place(page, 60), steps=3)
    assert page.locator("#card-path").text_content() == examples["path"][100]
    page.locator("#release").click()
    _hover(page, 41)
    assert page.locator("#no-thumbnail").is_visible()
    assert not page.locator("#thumbnail").is_visible()
    _hover(page, 69)  # not reached, and without a log
    assert _facts(page)["Steps"] == "not reached in 100"
    page.wait_for_function("document.getElementById('curve-note').textContent === 'no loss curve kept'")
    assert not page.locator("#curve").is_visible()


def test_filters_and_sorting(page: Any) -> None:
    examples = frame(SMALL)
    shown = page.locator("#shown")
    assert shown.text_content() == "Showing 120 of 120 examples"
    page.get_by_label("reached (108)", exact=True).uncheck()
    assert shown.text_content() == "Showing 12 of 120 examples"
    assert set(_column(page, "Outcome")) == {"censored", "diverged"}
    assert page.evaluate("document.getElementById('plot').data.map((trace) => trace.x.length)") == [0, 12]
    page.get_by_label("True class").select_option(label=f"{CLASSES[0]} (0)")
    expected = examples[examples["not_reached"] & (examples["label"] == 0)]
    assert shown.text_content() == f"Showing {len(expected)} of 120 examples"
    page.get_by_label("reached (108)", exact=True).check()
    page.get_by_label("Path contains").fill("LINES,")
    page.wait_for_function("document.getElementById('shown').textContent.startsWith('Showing 0')")
    page.get_by_label("True class").select_option(label="All classes")
    assert shown.text_content() == "Showing 1 of 120 examples"
    page.get_by_label("Path contains").fill("")
    page.wait_for_function("document.getElementById('shown').textContent.startsWith('Showing 120')")

    ranks = sorted(examples["universal_difficulty_rank"])
    header = page.locator("#examples th", has_text="Rank")
    assert header.get_attribute("aria-sort") == "ascending"
    assert _column(page, "Rank") == [f"{rank:,}" for rank in ranks[:50]]
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert _column(page, "Rank") == [f"{rank:,}" for rank in ranks[::-1][:50]]
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    assert page.locator("#page").text_content() == "Page 3 of 3"
    assert _column(page, "Rank") == [f"{rank:,}" for rank in ranks[::-1][100:]]
    assert page.get_by_role("button", name="Next").get_attribute("aria-disabled") == "true"
    page.locator("#examples th", has_text="Steps").get_by_role("button").click()
    page.locator("#examples th", has_text="Steps").get_by_role("button").click()
    assert header.get_attribute("aria-sort") is None
    assert _column(page, "Steps")[:13] == [
        *["not reached"] * 12,
        f"{examples['steps'][~examples['not_reached']].max():.0f}",
    ]
    page.locator("#examples th", has_text="Path").get_by_role("button").click()
    assert _column(page, "Path") == sorted(examples["path"])[:50]


def test_keyboard_and_picks(page: Any) -> None:
    examples = frame(SMALL)
    by_rank = examples.sort_values("universal_difficulty_rank").index.tolist()
    scatter = page.locator("#scatter")
    page.locator("#path").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "scatter"
    assert scatter.evaluate("(s) => getComputedStyle(s).outlineStyle") == "solid"
    for key in ("Home", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    _wait_for_card(page, by_rank[2])
    page.keyboard.press("ArrowLeft")
    _wait_for_card(page, by_rank[1])
    assert examples["path"][by_rank[1]] in page.locator("#said").text_content()
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    _wait_for_card(page, by_rank[-1])
    page.keyboard.press(" ")
    page.keyboard.press("+")
    page.wait_for_function("document.getElementById('plot').layout.yaxis.range[0] > 100")
    page.keyboard.press("0")
    assert page.locator("#picked").text_content() == "2 picked"
    page.keyboard.press(" ")
    assert page.locator("#picked").text_content() == "1 picked"
    row = page.locator("#examples tbody tr").nth(4)  # by rank
    row.get_by_role("checkbox").check()
    row.locator(".path button").click()
    _wait_for_card(page, by_rank[4])
    assert page.evaluate("document.activeElement.id") == "card"
    assert page.locator("#pick").text_content() == "Unpick this example"
    page.locator("#pick").click()
    assert not row.get_by_role("checkbox").is_checked()
    page.locator("#clear").click()
    assert page.locator("#download").is_disabled()


def test_after_a_click_the_arrow_keys_go_on_from_there(page: Any) -> None:
    by_rank = frame(SMALL).sort_values("universal_difficulty_rank").index.tolist()
    page.mouse.click(*_place(page, by_rank[40]))
    _wait_for_card(page, by_rank[40])
    page.keyboard.press("ArrowRight")
    _wait_for_card(page, by_rank[41])
    assert page.locator("#release").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#release").is_visible()


def test_zoom_move_and_all_in_view(page: Any) -> None:
    ranges = "[document.getElementById('plot').layout.xaxis.range, document.getElementById('plot').layout.yaxis.range]"
    everything = page.evaluate(ranges)

    def at(x: int, y: int) -> tuple[float, float]:
        page.locator("#plot").scroll_into_view_if_needed()
        box = page.locator("#plot").bounding_box()
        return box["x"] + x, box["y"] + y

    def drag() -> Any:
        before = page.evaluate(ranges)
        page.mouse.move(*at(200, 60))
        page.mouse.down()
        page.mouse.move(*at(400, 260), steps=4)
        page.mouse.up()
        page.wait_for_function(f"(before) => JSON.stringify({ranges}) !== before", arg=_compact(before))
        return page.evaluate(ranges)

    zoomed = drag()
    page.get_by_label("reached (108)", exact=True).uncheck()
    assert page.evaluate(ranges) == zoomed  # a filter keeps the view
    page.mouse.dblclick(*at(300, 120))
    page.wait_for_function(f"(all) => JSON.stringify({ranges}) === all", arg=_compact(everything))
    page.get_by_label("move", exact=True).check()
    drag()
    page.locator("#all-in-view").click()
    page.wait_for_function(f"(all) => JSON.stringify({ranges}) === all", arg=_compact(everything))


@pytest.mark.parametrize("tool", ["box pick", "lasso pick"])
def test_picks_by_mouse(page: Any, tool: str) -> None:
    page.get_by_label(tool).check()
    page.locator("#plot").scroll_into_view_if_needed()
    box = page.locator("#plot").bounding_box()
    assert box is not None
    left, top, right, low = box["x"] + 76, box["y"] + 12, box["x"] + box["width"] * 0.6, box["y"] + box["height"] - 50
    page.mouse.move(left, top)
    page.mouse.down()
    corners = [(right, low)] if tool == "box pick" else [(right, top), (right, low), (left, low), (left, top + 2)]
    for x, y in corners:
        page.mouse.move(x, y, steps=6)
    page.mouse.up()
    edge = page.evaluate(
        "(x) => { const p = document.getElementById('plot'); const a = p._fullLayout.xaxis;"
        " return a.p2d(x - p.getBoundingClientRect().left - a._offset); }",
        right,
    )
    expected = int((frame(SMALL)["steps"].clip(upper=100) <= edge).sum())
    assert 20 < expected < 120
    page.wait_for_function("(text) => document.getElementById('picked').textContent === text", arg=f"{expected} picked")
    assert page.evaluate("document.getElementById('plot').layout.selections.length") == 0


def test_the_download_is_what_was_given(page: Any) -> None:
    page.locator("#pick-all").click()
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "picked_examples.csv"
    text = Path(download.value.path()).read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    examples = frame(SMALL)
    assert len(rows) == SMALL
    for row, (_, given) in zip(rows, examples.iterrows(), strict=True):
        assert row["study"] == 'study, with "quotes" </script><img src=x onerror=alert(7)>'
        shown = given["path"].replace("\udcff", "\ufffd")  # no text file can hold a broken surrogate
        assert row["path"] == (f"'{shown}" if shown in FORMULAS else shown)
        assert int(row["total_steps_to_epsilon"]) == (-1 if given["not_reached"] else given["steps"])
        assert float(row["initial_loss"]) == given["initial_loss"]
        assert float(row["final_loss"]) == given["final_loss"]
        for name in ("example_index", "universal_difficulty_rank", "label", "predicted_before"):
            assert int(row[name]) == given[name]
        assert row["outcome"] == given["outcome"]


def test_hostile_names_are_shown_and_not_run(page: Any) -> None:
    assert page.title() == "Title <script>alert(0)</script>"
    page.locator("#examples th", has_text="Index").get_by_role("button").click()
    assert _column(page, "Path")[:4] == list(HOSTILE[:4])
    for i, path in enumerate(HOSTILE[:4]):
        page.locator("#examples tbody .path button").nth(i).click()
        assert page.locator("#card-path").text_content() == path
        assert _facts(page)["True class"] == f"{CLASSES[i % 3]} ({i % 3})"
        _curve_drawn(page)
    assert page.locator("img[src=x], main script").count() == 0
    assert page.locator("figcaption").text_content() == 'Survival "quoted" <script>alert(6)</script>'


@pytest.fixture(scope="module")
def phone(open_for_all: Open, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two studies on a phone, the second without all that may be missing."""
    bare = frame(20).drop(columns=["label", "predicted_before", "initial_loss", "final_loss"])
    second = StudyOnPage("second", bare, float("nan"), 50, (), None, lambda position: None, {})
    file = _page(tmp_path_factory.mktemp("two"), [study(frame(SMALL), name="first"), second])
    return open_for_all(file, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)


def test_on_a_phone(phone: Any) -> None:
    page = phone
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.touchscreen.tap(*_place(page, 91))
    _wait_for_card(page, 91)
    _curve_drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#pick").tap()
    assert page.locator("#picked").text_content() == "1 picked"
    # A finger that moves up over the plot scrolls the page.
    page.locator("#plot").scroll_into_view_if_needed()
    x, y = _place(page, 91)
    before = page.evaluate("scrollY")
    finger = page.context.new_cdp_session(page)
    for kind, moved in (("touchStart", 0), *(("touchMove", 20 * i) for i in range(1, 9)), ("touchEnd", None)):
        points = [] if moved is None else [{"x": x, "y": y - moved}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.wait_for_function("(before) => scrollY > before + 80", arg=before)


def test_dark_and_light_follow_the_system(page: Any) -> None:
    page.emulate_media(color_scheme="light")
    seen = """() => {
        const plot = document.getElementById('plot');
        return [getComputedStyle(document.body).backgroundColor, plot.data[0].marker.color, plot.layout.xaxis.color];
    }"""
    light = page.evaluate(seen)
    assert light[1] == "#0072b2"
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("(colour) => document.getElementById('plot').layout.xaxis.color !== colour", arg=light[2])
    assert all(a != b for a, b in zip(light, page.evaluate(seen), strict=True))


def test_two_studies(phone: Any) -> None:
    page = phone
    assert page.evaluate("document.getElementById('plot').layout.shapes.map((line) => line.x0).sort()") == [100, 50]
    page.get_by_label("Study").select_option(label="second")
    assert page.locator("#shown").text_content() == "Showing 20 of 140 examples"
    assert set(_column(page, "Study")) == {"second"}
    assert set(_column(page, "True class")) == {"–"}  # noqa: RUF001
    page.locator("#examples tbody .path button").first.click()
    assert _facts(page)["Study"] == "second"
    page.wait_for_function("document.getElementById('curve-note').textContent === 'no loss curve kept'")


def test_twenty_thousand(open_page: Open, webgl_browser: Any, large: Path) -> None:
    page = open_page(large, browser=webgl_browser)
    assert page.evaluate("document.getElementById('plot').data[0].type") == "scattergl"
    assert page.locator("#examples tbody tr").count() == 50
    x, y = _place(page, 10_001)
    page.mouse.move(x, y, steps=2)
    page.wait_for_function("document.getElementById('card-path').textContent !== ''")
    path = page.locator("#card-path").text_content()
    found = _place(page, page.evaluate("(path) => StepsReport.examples.findIndex((e) => e.path === path)", path))
    assert abs(found[0] - x) + abs(found[1] - y) < 5  # itself, or one that lies upon it
    page.locator("#outcomes input").first.uncheck()
    assert page.locator("#shown").text_content() == "Showing 2,000 of 20,000 examples"
    page.locator("#outcomes input").first.check()
    page.get_by_role("button", name="Index").click()
    assert _column(page, "Index")[:2] == ["0", "1"]
    page.locator("#pick-all").click()
    assert page.locator("#picked").text_content() == "20,000 picked"
    page.locator("#scatter").focus()
    page.keyboard.press("End")
    last = page.locator("#card-path").text_content()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#card-path").text_content() not in ("", last)


def test_without_webgl(open_page: Open, tmp_path: Path) -> None:
    page = open_page(_page(tmp_path, [study(frame(6_000), limit=1000)]))
    assert page.evaluate("document.getElementById('plot').data[0].type") == "scatter"
    assert "Without WebGL the scatter draws 3,000 of the 6,000" in page.locator("#thinned").text_content()
    page.get_by_label("True class").select_option(label=f"{CLASSES[1]} (1)")
    assert page.locator("#shown").text_content() == "Showing 2,000 of 6,000 examples"
    assert page.locator("#thinned").text_content() == ""
    _hover(page, 4)


def test_keys_of_the_browser_and_unknown_ones_do_nothing(page: Any) -> None:
    page.locator("#scatter").focus()
    page.keyboard.press("Home")
    before = page.evaluate("[document.getElementById('card-path').textContent, document.getElementById('plot').layout]")
    for keys in ("Control+End", "Alt+ArrowRight", "Meta+ArrowRight", "Control+Enter"):
        page.keyboard.press(keys)
    page.evaluate("document.getElementById('scatter').dispatchEvent(new KeyboardEvent('keydown', { key: '' }))")
    page.evaluate("document.getElementById('scatter').dispatchEvent(new KeyboardEvent('keydown', { key: '+-' }))")
    page.wait_for_timeout(200)
    assert before == page.evaluate(
        "[document.getElementById('card-path').textContent, document.getElementById('plot').layout]"
    )
    assert page.locator("#picked").text_content() == "0 picked"


def test_what_the_filters_hide_is_not_picked_by_a_key(page: Any) -> None:
    examples = frame(SMALL)
    _hover(page, 9)
    assert _facts(page)["Outcome"] == "censored"
    page.get_by_label("censored (6)", exact=True).uncheck()
    page.locator("#scatter").focus()
    page.keyboard.press("Enter")
    page.keyboard.press(" ")
    assert page.locator("#picked").text_content() == "0 picked"
    page.keyboard.press("ArrowRight")  # from there to the first that is shown
    ranks = examples["universal_difficulty_rank"].mask(examples["outcome"] == "censored", math.inf)
    _wait_for_card(page, int(ranks.to_numpy().argmin()))


def test_arrow_keys_hold_the_card(page: Any) -> None:
    page.locator("#scatter").focus()
    page.keyboard.press("End")
    path = page.locator("#card-path").text_content()
    x, y = _place(page, 60)
    page.mouse.move(x - 20, y - 20)
    page.mouse.move(x, y, steps=4)
    page.wait_for_timeout(200)
    assert page.locator("#card-path").text_content() == path
    assert page.locator("#release").is_visible()


def test_the_focus_is_never_lost(page: Any) -> None:
    focused = "document.activeElement.id"
    page.locator("#examples tbody .path button").first.click()
    page.locator("#release").focus()
    page.keyboard.press("Enter")
    assert not page.locator("#release").is_visible()
    assert page.evaluate(focused) == "card"
    page.locator("#pick-all").click()
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    assert (page.locator("#picked").text_content(), page.evaluate(focused)) == ("0 picked", "clear")
    page.locator("#next").focus()
    for number in (2, 3, 3):
        page.keyboard.press("Enter")
        assert page.locator("#page").text_content() == f"Page {number} of 3"
        assert page.evaluate(focused) == "next"
    assert page.locator("#next").get_attribute("aria-disabled") == "true"
    top, bottom = page.evaluate(
        "(() => { const box = document.querySelector('#examples thead').getBoundingClientRect();"
        " return [box.top, innerHeight - box.bottom]; })()"
    )
    assert top >= 0
    assert bottom >= 0
    page.locator("#previous").focus()
    for number in (2, 1, 1):
        page.keyboard.press("Enter")
        assert page.locator("#page").text_content() == f"Page {number} of 3"
        assert page.evaluate(focused) == "previous"


def test_no_example_passes(page: Any) -> None:
    page.get_by_label("Path contains").fill("nowhere to be found")
    page.get_by_text("no example passes the filters").wait_for()
    page.locator("#pick-all").click()
    assert page.locator("#picked").text_content() == "0 picked"


def test_marks_are_drawn_in_two_layers(page: Any) -> None:
    def inked(layer: str) -> int:
        return int(
            page.evaluate(
                "(id) => { const c = document.getElementById(id); const { data } = c.getContext('2d')"
                ".getImageData(0, 0, c.width, c.height); return data.filter((v, i) => i % 4 === 3 && v).length; }",
                layer,
            )
        )

    page.locator("#scatter").focus()
    page.keyboard.press("Home")
    assert inked("marks") == 0
    assert inked("ring") > 50
    page.keyboard.press("Enter")
    assert 20 < inked("marks") < 200
    page.evaluate("document.getElementById('marks').getContext('2d').clearRect(0, 0, 9999, 9999)")
    page.keyboard.press("ArrowRight")
    assert inked("marks") == 0  # the picks are not drawn again for it
    assert inked("ring") > 50


def test_numbers_are_shown_unrounded(open_page: Open, tmp_path: Path) -> None:
    examples = frame(12).assign(universal_difficulty_rank=[1000.0625 + i / 3 for i in range(12)])
    page = open_page(_page(tmp_path, [study(examples, limit=5)]))
    assert _column(page, "Rank")[:2] == ["1,000.0625", f"{1000.0625 + 1 / 3:,}"]
    page.locator("#scatter").focus()
    for _ in range(6):
        ticks = page.locator("#plot .xtick text, #plot .ytick text").all_text_contents()
        assert not [text for text in ticks if text.strip("0123456789,.\u2212")]
        page.keyboard.press("+")
        page.wait_for_timeout(20)
    assert page.evaluate("(([a, b]) => b - a)(document.getElementById('plot').layout.xaxis.range)") < 0.2


def test_controls_are_seen_in_both_themes(page: Any) -> None:
    assert page.locator(".swatch").first.evaluate("(s) => getComputedStyle(s).forcedColorAdjust") == "none"
    assert page.locator("[aria-pressed]").count() == 0  # the label says it

    def luminance(colour: str) -> float:
        values = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        colours = page.evaluate(
            "(() => { const style = getComputedStyle(document.getElementById('path'));"
            " return [style.borderTopColor, style.backgroundColor,"
            " getComputedStyle(document.body).backgroundColor]; })()"
        )
        border, *grounds = map(luminance, colours)
        for ground in grounds:
            assert (max(border, ground) + 0.05) / (min(border, ground) + 0.05) >= 3


def test_infinite_losses_are_shown_sorted_and_downloaded(open_page: Open, tmp_path: Path) -> None:
    examples = frame(12)
    examples.loc[3, "final_loss"], examples.loc[4, "initial_loss"] = math.inf, math.nan
    page = open_page(_page(tmp_path, [study(examples)]))
    for _ in range(2):
        page.locator("#examples th", has_text="Final loss").get_by_role("button").click()
    assert _column(page, "Final loss")[0] == "Infinity"
    page.locator("#pick-all").click()
    with page.expect_download() as download:
        page.locator("#download").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(), newline="")))
    assert float(rows[3]["final_loss"]) == math.inf
    assert rows[4]["initial_loss"] == ""


def test_the_page_can_be_moved_alone(open_page: Open, small: Path, tmp_path: Path) -> None:
    page = open_page(Path(shutil.copy(small, tmp_path / "mailed.html")))
    _hover(page, 100)
    page.wait_for_function("document.getElementById('thumbnail').naturalWidth === 32")
    assert page.evaluate("getComputedStyle(document.getElementById('thumbnail')).imageRendering") == "pixelated"
    _curve_drawn(page)
    assert page.evaluate("document.querySelector('figure img').naturalWidth") == 40


def test_no_other_script_runs(open_page: Open, small: Path, tmp_path: Path, wrong: list[str]) -> None:
    html = small.read_text().replace("<h1>", "<script>alert(8)</script><img src='data:,' onerror='alert(9)'><h1>")
    (tmp_path / "spoilt.html").write_text(html)
    open_page(tmp_path / "spoilt.html")
    assert len(wrong) >= 2
    assert all("Content Security Policy" in text for text in wrong if not text.startswith("failed: data:"))
    wrong.clear()


@pytest.mark.parametrize("cut", ["studies", "curves-0", "the scripts"])
def test_a_page_without_its_end_says_so(open_page: Open, small: Path, tmp_path: Path, cut: str) -> None:
    html = small.read_text()
    end = len(html) - 9000 if cut == "the scripts" else html.index(f'id="{cut}"') + 200
    (tmp_path / "cut.html").write_text(html[:end])
    page = open_page(tmp_path / "cut.html", whole=False)
    notice = page.get_by_role("alert")
    assert not notice.is_visible()
    notice.get_by_text("The end of this page is missing").wait_for()
    assert page.locator("table").first.is_visible()
    assert not page.locator("#living").is_visible()


def test_a_page_without_examples_says_so(open_page: Open, tmp_path: Path) -> None:
    page = open_page(_page(tmp_path, [study(frame(12).iloc[:0])]), whole=False)
    page.get_by_role("alert").get_by_text("This page has no examples.").wait_for()
    assert not page.locator("#living").is_visible()
