"""How long a report's page takes to answer in a headless Chromium: `smoothness_of_the_page.py FOLDER/report.html`.

Needs playwright and Debian's chromium. WebGL is drawn in software here; a real GPU is faster.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
TIMED = "() => {{ const start = performance.now(); {}; return performance.now() - start; }}"
HOVERS = """async () => {
    const drag = document.querySelector('#plot .nsewdrag'), box = drag.getBoundingClientRect(), times = [];
    for (let i = 0; i < 60; i += 1) {
        await new Promise((done) => setTimeout(done, 60)); // plotly answers at most every 50 ms
        const [clientX, clientY] = [box.left + box.width * (0.2 + 0.01 * i), box.top + 60 + 4 * i];
        const before = document.getElementById('card-path').textContent, start = performance.now();
        drag.dispatchEvent(new MouseEvent('mousemove', { clientX, clientY, bubbles: true }));
        if (document.getElementById('card-path').textContent !== before) times.push(performance.now() - start);
    }
    return times;
}"""


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    page_file = parser.parse_args().page.resolve()
    with sync_playwright() as run:
        browser = run.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        start = time.monotonic()
        page.goto(page_file.as_uri())
        page.wait_for_selector("#examples tbody tr", timeout=120_000)
        print(f"usable after {time.monotonic() - start:.1f} s, {page.locator('#shown').text_content()}")
        for name, code in (
            ("filter", "document.querySelector('#outcomes input').click()"),
            ("sort", "document.querySelectorAll('#examples th button')[1].click()"),
        ):
            print(f"{name} {page.evaluate(TIMED.format(code)):.0f} ms")
        page.locator("#outcomes input").first.check()
        page.wait_for_timeout(1000)
        hovers = page.evaluate(HOVERS)
        print(f"hover: {len(hovers)} answers, median {statistics.median(hovers):.0f} ms, worst {max(hovers):.0f} ms")
        browser.close()


if __name__ == "__main__":
    main()
