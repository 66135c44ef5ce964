"""`report`: statistics, pictures and a page, from results folders or from any CSV with the seed's columns."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lightning_app.commands.parser import Parser, fits
from lightning_app.errors import BadInputError, say
from lightning_app.files import file_name, json_text
from lightning_app.settings import require


def parser() -> Parser:
    """What `report` takes."""
    parser = Parser(
        "report",
        "Do steps to epsilon follow universal difficulty? Rank statistics that know what never reached means, with"
        " their intervals, in words, tables and pictures, and report.html, a page that opens from disk and shows every"
        " image with its loss curve. Several studies are put side by side.",
    )
    parser.add_argument(
        "folder_or_csv", nargs="+", type=Path, metavar="FOLDER_OR_CSV",
        help="a results folder, such as outputs/MODEL, also while it runs; or any CSV with the columns path,"
        " total_steps_to_epsilon (-1: never reached) and universal_difficulty_rank",
    )  # fmt: skip
    parser.add_argument(
        "--epsilon", action="append", metavar="X",
        help="one more threshold, above the study's own epsilon: the losses have the steps to it (may be given again)",
    )  # fmt: skip
    parser.add_argument(
        "--output_dir", type=Path, metavar="DIR",
        help="where report.html goes, and report_pictures/ with --format (default: the results folder; for a CSV or"
        " several studies report_NAME in the current folder)",
    )  # fmt: skip
    parser.add_argument(
        "--root_dir", type=Path, metavar="DIR",
        help="the folder with the images, for thumbnails (default: where run had them)",
    )  # fmt: skip
    parser.add_argument("--thumbnails", choices=("some", "all"), default="some",
                        help="of 2,000 examples, or of all, for which the page grows by a few kilobytes each (default:"
                        " some)")  # fmt: skip
    parser.add_argument("--format", metavar="{png,svg,pdf}", action="append",
                        help="write each picture of the page as a file too, into report_pictures/ beside report.html,"
                        " for a paper (may be given again)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the statistics as JSON, and write nothing")
    return parser


def _threshold(text: str) -> float:
    require("epsilon", "a loss > 0", text, fits(text, float) and float(text) > 0)
    return float(text)


def main(argv: Sequence[str]) -> int:
    """Runs the command and returns its exit code."""
    arguments = parser().parse(argv)
    thresholds = [_threshold(text) for text in arguments.epsilon or ()]
    kinds = sorted({*(arguments.format or ())})
    for kind in kinds:
        require("format", "png, svg or pdf", kind, kind in ("png", "svg", "pdf"))
    # Here and not above: --help doesn't wait for them.
    from lightning_app.console.log import StudyLog
    from lightning_app.report.report import PICTURES, read_report, require_place, studies_on_page, write_report
    from lightning_app.report.tables import TERMINAL, as_text

    with StudyLog():
        report = read_report(arguments.folder_or_csv, thresholds)
        if arguments.json:
            print(json_text(report.as_dict()), end="")
            return 0
        # All that can be refused is refused before the answer is on the screen.
        names = [study.name for study in report.studies]
        folder = arguments.output_dir or _default_folder(arguments.folder_or_csv, names)
        on_page = studies_on_page(report, arguments.root_dir)
        require_place(folder, kinds)
        say("\n\n".join(textwrap.fill(text, TERMINAL, break_on_hyphens=False) for text in report.paragraphs))
        say("\n" + "\n\n".join(map(as_text, report.tables)))
        sys.stdout.flush()
        page = write_report(report, folder, on_page, kinds, arguments.thumbnails == "all")
        say(f"\nPage: {page}")
        if kinds:
            say(f"Pictures: {folder / PICTURES}/")
    return 0


def _default_folder(places: Sequence[Path], names: Sequence[str]) -> Path:
    """The study's own folder; for anything else a new one, so that other people's folders stay as they are."""
    if len(places) == 1 and places[0].is_dir():
        return places[0]
    name = "report_" + "_".join(file_name(Path(name).name) for name in names)
    folder = Path(name if len(name) <= 100 else f"report_{len(names)}_studies")
    if folder.exists() and not folder.is_dir():
        raise BadInputError(f"--output_dir: {folder} is a file; choose another folder")
    return folder
