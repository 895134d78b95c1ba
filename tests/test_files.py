"""Files under contention, and writers that die: what is read is whole, what is left is removed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_serialization import small_model

import fastcnn
from fastcnn import _files, nn, serialization

posix = pytest.mark.skipif(os.name != "posix", reason="Windows locks every open file")


def left_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ---------------------------------------------------------------------- many writers
SAVER = """
import os, sys
import fastcnn
os.getpid = lambda: 1  # as in containers that share a volume
model = fastcnn.load(sys.argv[1])
for name, array in model.state_dict().items():
    model.variables()[name].data[:] = float(sys.argv[3])
for _ in range(25):
    model.save(sys.argv[2])
"""


def test_processes_that_save_to_one_path(tmp_path: Path) -> None:
    """Whoever loads meanwhile sees a whole file of one of them, and no save fails."""
    model = nn.Sequential([nn.Dense(3000)])
    model.build((7,))
    model.save(tmp_path / "of")
    path = tmp_path / "latest"
    model.save(path)
    writers = [
        subprocess.Popen([sys.executable, "-c", SAVER, tmp_path / "of", path, value])
        for value in ("1", "2", "3")
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        weight = fastcnn.load(path).state_dict()["0.weight"]
        if weight[0, 0] in (1, 2, 3):
            assert (weight == weight[0, 0]).all()
            seen.add(float(weight[0, 0]))
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert seen, "some were loaded while others were saved"
    assert left_in(tmp_path) == ["latest", "of"]


def test_a_file_that_shrinks_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may write in place; then the process must live."""
    path = tmp_path / "m"
    real = serialization.header_of
    model = nn.Sequential([nn.Dense(3000)])
    model.build((7,))

    def cut_by(count: int) -> Any:
        def header_of(file: Any) -> Any:
            head = real(file)
            os.truncate(path, max(os.path.getsize(path) - count, 20))
            return head

        return header_of

    for count in (4, 10**9):
        model.save(path)
        monkeypatch.setattr(serialization, "header_of", cut_by(count))
        with pytest.raises(ValueError, match="expected a fastcnn model file: "):
            fastcnn.load(path)


# ---------------------------------------------------------------------- writers that die
def dying_save(path: Path) -> None:
    code = (
        "import os, sys, fastcnn\n"
        "model = fastcnn.load(sys.argv[1])\n"
        "os.replace = lambda *names: os._exit(9)\n"
        "model.save(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=60)
    assert done.returncode == 9


def test_the_next_save_removes_what_a_dead_writer_left(tmp_path: Path) -> None:
    path = tmp_path / "m"
    small_model().save(path)
    dying_save(path)
    (left,) = (entry for entry in tmp_path.iterdir() if entry != path)
    for clean in (
        lambda: small_model().save(path),
        lambda: _files.remove_leftovers(tmp_path),
        lambda: fastcnn.Trainer(small_model(), backend="reference").save_state(path),
        lambda: fastcnn.Trainer(small_model(), backend="reference").load_state(path),
    ):
        clean()
        assert left_in(tmp_path) == ["m"]
        left.write_bytes(b"the next")


def test_temporaries_of_living_writers_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replaced = tmp_path / "m", []

    def replace(temporary: Path, target: Path) -> None:
        _files.remove_leftovers(tmp_path)
        _files.write_atomically(tmp_path / "other", b"of another writer at the same time")
        replaced.append(os.path.exists(temporary))
        real(temporary, target)

    real = os.replace

    with monkeypatch.context() as patch:
        patch.setattr(
            os, "replace", lambda *names: (patch.setattr(os, "replace", real), replace(*names))
        )
        small_model().save(path)
    assert replaced == [True]
    fastcnn.load(path)
    assert left_in(tmp_path) == ["m", "other"]


@posix
def test_where_there_are_no_locks_age_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    old, new = tmp_path / ".fastcnn-0123.tmp", tmp_path / ".fastcnn-4567.tmp"
    for temporary in (old, new):
        temporary.write_bytes(b"")
    os.utime(old, (0, 0))
    small_model().save(tmp_path / "m")
    assert left_in(tmp_path) == [new.name, "m"]


def test_a_temporary_that_others_take_away_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = os.replace, []

    def replace(temporary: Path, target: Path) -> None:
        tries.append(temporary)
        if len(tries) < 3:
            os.unlink(temporary)
        real(temporary, target)

    monkeypatch.setattr(os, "replace", replace)
    small_model().save(tmp_path / "m")
    assert len(set(tries)) == 3
    fastcnn.load(tmp_path / "m")
    assert left_in(tmp_path) == ["m"]


def test_what_is_no_temporary_of_ours_stays(tmp_path: Path) -> None:
    for name in (".fastcnn-notes.txt", "fastcnn-1.tmp", ".m.123.tmp"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".fastcnn-folder.tmp").mkdir()
    outside = tmp_path / "outside"
    outside.write_bytes(b"kept")
    if hasattr(os, "mkfifo"):
        (tmp_path / ".fastcnn-link.tmp").symlink_to(outside)
        os.mkfifo(tmp_path / ".fastcnn-pipe.tmp")
    before = left_in(tmp_path)
    small_model().save(tmp_path / "m")
    assert left_in(tmp_path) == sorted([*before, "m"])
    _files.remove_leftovers(tmp_path / "nowhere")


# ---------------------------------------------------------------------- errors
@posix
@pytest.mark.parametrize("point", ["open", "fsync", "close"])
def test_a_file_that_was_replaced_is_saved(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails after the rename, at the folder, is no failure of the save."""
    path = tmp_path / "m"
    small_model(seed=1).save(path)
    calls: dict[str, Any] = {name: getattr(os, name) for name in (point, "replace")}
    failed = []

    def fail(*args: Any) -> None:
        failed.append(args)
        if point == "close":
            calls["close"](*args)
        raise OSError(errno.EIO, "Input/output error")

    def replace(*names: Any) -> None:
        calls["replace"](*names)
        monkeypatch.setattr(os, point, fail)

    monkeypatch.setattr(os, "replace", replace)
    small_model(seed=2).save(path)
    assert failed
    monkeypatch.undo()
    for name, array in fastcnn.load(path).state_dict().items():
        np.testing.assert_array_equal(array, small_model(seed=2).state_dict()[name])
    assert left_in(tmp_path) == ["m"]


@pytest.mark.parametrize("point", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
def test_errors_of_writing_name_the_file(
    point: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, point, fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        small_model().save(tmp_path / "m")
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "m"))
    assert left_in(tmp_path) == []


def test_errors_of_reading_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    small_model().save(tmp_path / "m")
    monkeypatch.setattr(serialization, "header_of", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        fastcnn.load(tmp_path / "m")
    assert caught.value.filename == str(tmp_path / "m")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = open

    def full(name: Any, mode: str = "r") -> Any:
        if mode == "wb":
            os.symlink("/dev/full", name)
        return real(name, mode)

    monkeypatch.setattr("builtins.open", full)
    with pytest.raises(OSError, match="No space left") as caught:
        _files.write_atomically(tmp_path / "m", b"x")
    assert caught.value.filename == str(tmp_path / "m")


def test_long_and_odd_names(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 250)
    small_model().save(long)
    fastcnn.load(long)
    small_model().save(os.fsencode(tmp_path / "bytes"))  # type: ignore[arg-type]
    fastcnn.load(tmp_path / "bytes")
    before = left_in(tmp_path)
    for path, kind, message in [
        (tmp_path / ("n" * 300), OSError, "path: expected a name that this system takes"),
        (tmp_path / ("é" * 250), OSError, "path: expected a name that this system takes"),
        (tmp_path / "a\0b", ValueError, "path: expected a name without null characters"),
        (3, TypeError, "path: expected a file's name, got int"),
        (None, TypeError, "path: expected a file's name, got NoneType"),
        (long / "m", FileNotFoundError, "path: expected a file in an existing folder"),
        ("", OSError, "path: expected a regular file or a new one"),
    ]:
        with pytest.raises(kind, match=message):
            small_model().save(path)  # type: ignore[arg-type]
    assert left_in(tmp_path) == before


def test_require_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m").write_bytes(b"old")
    _files.require_writable(tmp_path / "m")
    _files.require_writable(tmp_path / "new")
    assert left_in(tmp_path) == ["m"]
    assert (tmp_path / "m").read_bytes() == b"old"

    def read_only(name: Any, mode: str = "r") -> Any:
        raise OSError(errno.EROFS, "Read-only file system", os.fspath(name))

    monkeypatch.setattr("builtins.open", read_only)
    with pytest.raises(OSError, match="Read-only file system") as caught:
        _files.require_writable(tmp_path / "m")
    assert caught.value.filename == str(tmp_path / "m")
