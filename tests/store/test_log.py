import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_app.errors import StorageError
from lightning_app.files import OutsideError
from lightning_app.store import log as module
from lightning_app.store.log import LogWriter, whole_lines


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def test_what_is_appended_is_read(file: Path) -> None:
    writer = LogWriter(file, 0)
    writer.append(b"one\n")
    writer.append(b"two\nthree\n")
    assert list(whole_lines(file)) == [b"one\n", b"two\n", b"three\n"]
    assert writer.size == 14
    writer.close()


@pytest.mark.parametrize("torn", [b"tw", b"\0" * 50, b"\0" * 50 + b"\n", b"tw\0\0\n", b""])
def test_what_a_kill_or_a_power_cut_left_is_passed_over_and_cut_off(file: Path, torn: bytes) -> None:
    file.write_bytes(b"one\n" + torn)
    assert list(whole_lines(file)) == [b"one\n"]
    writer = LogWriter(file, 4, len(torn))
    writer.append(b"two\n")
    writer.close()
    assert file.read_bytes() == b"one\ntwo\n"


@given(
    st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"").replace(b"\0", b"") + b"\n")), st.data()
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_log_that_is_cut_anywhere_has_its_whole_lines(file: Path, lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    found = list(whole_lines(file))
    assert found == lines[: len(found)]
    assert len(b"".join(found)) <= cut < len(b"".join(lines[: len(found) + 1])) or found == lines


def test_each_append_is_one_write_and_then_on_the_disk(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    write = os.write

    def noted(descriptor: int, data: bytes) -> int:
        calls.append(data)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", noted)
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("flushed"))
    writer = LogWriter(file, 0)
    calls.clear()
    writer.append(b"one\n")
    assert calls == [b"one\n", "flushed"]
    writer.close()
    calls.clear()
    writer = LogWriter(file, 4, flush=False)
    writer.append(b"two\n")
    assert calls == [b"two\n"]
    writer.close()


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_an_append_that_fails_is_taken_back(file: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    writer = LogWriter(file, 0)
    writer.append(b"one\n")
    write, room = os.write, [3]

    def little(descriptor: int, data: bytes) -> int:
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        done = write(descriptor, data[: room[0]])
        room[0] -= done
        return done

    def none(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, little if fails == "write" else none)
        with pytest.raises(StorageError, match=r"log\.jsonl can't be written: No space left on device"):
            writer.append(b"two\n")
        assert file.read_bytes() == b"one\n"
    writer.append(b"two\n")
    assert file.read_bytes() == b"one\ntwo\n"
    writer.close()


def test_a_second_writer_is_noticed_where_no_lock_holds(file: Path) -> None:
    writer, other = LogWriter(file, 0), LogWriter(file, 0)
    writer.append(b"one\n")
    with pytest.raises(StorageError, match="another process has written to it"):
        other.append(b"two\n")
    assert file.read_bytes() == b"one\n"
    with pytest.raises(StorageError, match="another process has written to it"):
        LogWriter(file, 0)  # of a run that has looked before the first one wrote
    assert file.read_bytes() == b"one\n"
    writer.close()
    other.close()


@pytest.mark.parametrize("how", ["gone", "replaced"])
def test_a_log_that_was_taken_away_is_not_written_on(file: Path, how: str) -> None:
    writer = LogWriter(file, 0)
    writer.append(b"one\n")
    file.rename(file.with_name("away"))
    if how == "replaced":
        file.write_bytes(b"one\n")
    with pytest.raises(StorageError, match="it was moved or removed"):
        writer.append(b"two\n")
    writer.close()
    assert file.with_name("away").read_bytes() == b"one\n"
    assert how == "gone" or file.read_bytes() == b"one\n"


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_of_its_own_is_refused(file: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("precious\n")
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "link":
        file.symlink_to("victim")
    else:
        file.mkdir()
    with pytest.raises((OutsideError, OSError)):
        list(whole_lines(file))
    with pytest.raises(StorageError, match="can't be written"):
        LogWriter(file, 0)
    assert (tmp_path / "victim").read_text() == "precious\n"


def test_a_line_without_an_end_is_not_read_for_ever(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 1000)
    file.write_bytes(b"one\n" + b"x" * 5000)
    with pytest.raises(OutsideError, match="a line of more than the 1,000 bytes"):
        list(whole_lines(file))


def test_a_reader_holds_up_no_writer(file: Path) -> None:
    writer = LogWriter(file, 0)
    writer.append(b"one\ntwo\n")
    reader = whole_lines(file)
    assert next(reader) == b"one\n"  # and is suspended there
    writer.append(b"three\n")
    assert list(reader) == [b"two\n"]  # what was there when it began
    writer.close()
