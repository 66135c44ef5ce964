import logging
import warnings
from pathlib import Path

import pytest

from lightning_app.console.log import FILE_ONLY, StudyLog
from lightning_app.errors import StorageError

log = logging.getLogger("lightning_app")


@pytest.mark.filterwarnings("always")
def test_what_is_said_before_the_file_exists_stands_in_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):  # two runs in one process
        with StudyLog() as study_log:
            log.info("early %d", number)
            log.debug("detail")
            log.info("quiet", extra=FILE_ONLY)
            warnings.warn("Python's own", stacklevel=1)
            study_log.to_file(Path(f"{number}.log"))
            log.warning("late\x1b[31m")
            assert "late" in Path(f"{number}.log").read_text()  # as it comes
        log.info("afterwards")
        said = Path(f"{number}.log").read_text()
        levels = [line.split()[2] for line in said.splitlines() if line[:2] == "20"]
        assert levels == ["INFO", "DEBUG", "INFO", "WARNING", "WARNING"]
        assert "Python's own" in said
        assert "late\\x1b[31m" in said
        assert "afterwards" not in said
        assert capsys.readouterr().err == f"early {number}\nwarning: late\\x1b[31m\n"


def test_a_log_that_can_not_be_opened_is_named() -> None:
    with StudyLog() as study_log, pytest.raises(StorageError, match=r"nowhere/x\.log can't be written: No such file"):
        study_log.to_file(Path("nowhere/x.log"))
