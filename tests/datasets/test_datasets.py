"""The IDX reader, MNIST and Fashion-MNIST: good files, every bad one, downloads and mirrors."""

from __future__ import annotations

import functools
import gzip
import hashlib
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from idx_files import N_TEST, N_TRAIN, idx, small_files

from fastcnn import datasets
from fastcnn.datasets import _idx, mnist
from fastcnn.datasets._idx import IMAGES, LABELS, read_idx


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A folder with a small, good data set, gzipped."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, content in small_files().items():
        (folder / name).write_bytes(gzip.compress(content))
    return tmp_path


def write(path: Path, content: bytes, gzipped: bool) -> Path:
    path.write_bytes(gzip.compress(content) if gzipped else content)
    return path


# ---------------------------------------------------------------------- good files
@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("name", ["data.gz", "data"])
def test_reads_gzipped_and_plain_by_content(tmp_path: Path, name: str, gzipped: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 3, 4)).astype(np.uint8)
    path = write(tmp_path / name, idx(images), gzipped)
    np.testing.assert_array_equal(read_idx(path, IMAGES), images)
    labels = np.arange(9, dtype=np.uint8)
    path = write(tmp_path / name, idx(labels), gzipped)
    np.testing.assert_array_equal(read_idx(path, LABELS), labels)


def test_gzip_members_are_concatenated(tmp_path: Path) -> None:
    content = idx(np.arange(100))
    path = tmp_path / "two.gz"
    path.write_bytes(gzip.compress(content[:50]) + gzip.compress(content[50:]))
    assert len(read_idx(path, LABELS)) == 100


def test_load_gives_arrays_in_the_house_layout(data_dir: Path) -> None:
    (x_train, y_train), (x_test, y_test) = datasets.load("mnist", data_dir)
    assert x_train.shape == (N_TRAIN, 28, 28, 1)
    assert x_test.shape == (N_TEST, 28, 28, 1)
    assert x_train.dtype == x_test.dtype == np.uint8
    assert y_train.dtype == y_test.dtype == np.int64
    assert y_train.tolist() == [i % 10 for i in range(N_TRAIN)]
    content = small_files()["t10k-images-idx3-ubyte.gz"]
    assert x_test.tobytes() == content[16:]


def test_plain_files_without_gz_in_their_names(data_dir: Path) -> None:
    for path in (data_dir / "mnist").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert datasets.load("mnist", str(data_dir))[0][0].shape == (N_TRAIN, 28, 28, 1)


def test_fashion_mnist_has_a_folder_of_its_own(data_dir: Path) -> None:
    (data_dir / "mnist").rename(data_dir / "fashion-mnist")
    assert datasets.load("fashion-mnist", data_dir)[1][1].shape == (N_TEST,)


def test_data_folder_argument_then_environment_then_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import pooch

    monkeypatch.setenv("FASTCNN_DATA", str(tmp_path / "environment"))
    assert mnist.data_folder(tmp_path / "argument") == tmp_path / "argument"
    assert mnist.data_folder() == tmp_path / "environment"
    for empty in (True, False):
        if empty:
            monkeypatch.setenv("FASTCNN_DATA", "")
        else:
            monkeypatch.delenv("FASTCNN_DATA")
        assert mnist.data_folder() == Path(pooch.os_cache("fastcnn"))


def test_limits_keep_the_first_images(data_dir: Path) -> None:
    everything = datasets.load("mnist", data_dir)
    limited = datasets.load("mnist", data_dir, limit_train=5, limit_test=10_000)
    np.testing.assert_array_equal(limited[0][0], everything[0][0][:5])
    np.testing.assert_array_equal(limited[0][1], everything[0][1][:5])
    assert len(limited[1][0]) == len(limited[1][1]) == N_TEST


@pytest.mark.parametrize("option", ["limit_train", "limit_test"])
@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)]
)
def test_bad_limits(option: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{option}: expected"):
        datasets.load("strokes", **{option: value})  # type: ignore[arg-type]


def test_every_data_set_names_its_classes() -> None:
    assert tuple(datasets.CLASSES) == datasets.NAMES


def test_unknown_dataset_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"expected one of strokes, mnist.*'cifar'"):
        datasets.load("cifar")
    with pytest.raises(ValueError, match=r"expected one of mnist, fashion-mnist.*'strokes'"):
        mnist.load("strokes")


def test_mnist_itself(mnist_dir: Path) -> None:
    (x_train, y_train), (x_test, y_test) = datasets.load("mnist", mnist_dir)
    # MD5 of the unpacked files, their headers included
    digests = {
        "6bbc9ace898e44ae57da46a324031adb": idx(x_train[..., 0]),
        "a25bea736e30d166cdddb491f175f624": idx(y_train),
        "2646ac647ad5339dbf082846283269ea": idx(x_test[..., 0]),
        "27ae3e4e09519cfbb04c329615203637": idx(y_test),
    }
    for digest, content in digests.items():
        assert hashlib.md5(content).hexdigest() == digest


# ---------------------------------------------------------------------- bad files
GOOD = idx(np.zeros((3, 2, 2)))
BAD = {
    "empty": (b"", r"magic number 2051, got 0 bytes"),
    "three bytes": (GOOD[:3], r"magic number 2051, got 3 bytes"),
    "labels for images": (idx(np.zeros(8)), r"magic number 2051, got 2049 \(labels\)"),
    "text": (b"<html>not found</html>", r"magic number 2051, got 1013478509"),
    "little-endian": (struct.pack("<4I", 2051, 3, 2, 2) + bytes(12), r"got 50855936"),
    "header cut": (GOOD[:9], r"truncated: the file ends within its header"),
    "header alone": (GOOD[:16], r"truncated: .* \(3, 2, 2\), that is 12 bytes, but 0 follow"),
    "one byte short": (GOOD[:-1], r"truncated: .* \(3, 2, 2\), that is 12 bytes, but 11 follow"),
    "one byte long": (GOOD + b"x", r"too long: .* \(3, 2, 2\), that is 12 bytes, but"),
    "no images": (idx(np.zeros((0, 2, 2))), r"got an empty array of shape \(0, 2, 2\)"),
    "no pixels": (idx(np.zeros((3, 0, 2))), r"got an empty array of shape \(3, 0, 2\)"),
    "absurd": (struct.pack(">4I", 2051, *[2**32 - 1] * 3), r"4294967295, 4294967295\), that is"),
    "negative": (struct.pack(">I3i", 2051, -1, 2, 2) + bytes(12), r"\(4294967295, 2, 2\)"),
}  # fmt: skip


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str, gzipped: bool) -> None:
    content, message = BAD[case]
    path = write(tmp_path / "images", content, gzipped)
    with pytest.raises(ValueError, match=message) as error:
        read_idx(path, IMAGES)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(idx(np.random.default_rng(0).integers(0, 256, (9, 28, 28))))
    path = tmp_path / "images.gz"
    for content, message in [
        (whole[:5], "truncated"),
        (whole[: len(whole) // 2], "truncated"),
        (whole[:-4], "truncated"),  # the length at the very end
        (whole[:-8] + bytes(8), "damaged gzip data: CRC"),
        (whole[:200] + bytes(100) + whole[300:], "damaged gzip data"),
        (whole + b"junk", "damaged gzip data"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path.name}: {message}"):
            read_idx(path, IMAGES)


def test_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">4I", 2051, 2**17, 28, 28) + bytes(2**27)))
    with pytest.raises(ValueError, match=r"too much for a gzip file of \d+ bytes to be trusted"):
        read_idx(path, IMAGES)
    # A modest header before the bomb: no more is unpacked than the header says.
    path.write_bytes(gzip.compress(struct.pack(">4I", 2051, 1, 28, 28) + bytes(2**27)))
    unpacked = 0

    class Counting(gzip.GzipFile):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal unpacked
            assert size is not None
            assert size >= 0
            unpacked += size
            return super().read(size)

    monkeypatch.setattr(_idx.gzip, "GzipFile", Counting)
    with pytest.raises(ValueError, match="too long"):
        read_idx(path, IMAGES)
    assert unpacked == len(idx(np.zeros((1, 28, 28)))) + 1


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "missing", IMAGES)
    with pytest.raises(IsADirectoryError):
        read_idx(tmp_path, IMAGES)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.booleans(), st.booleans())
def test_any_bytes_give_an_array_or_a_value_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, gzipped: bool, headed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    write(path, (struct.pack(">2I", 2049, 5) if headed else b"") + content, gzipped)
    message = ""
    try:
        read_idx(path, LABELS)
    except ValueError as error:
        message = str(error)
    assert message == "" or message.startswith(f"{path}: ")


def replace(data_dir: Path, file: str, content: bytes) -> None:
    (data_dir / "mnist" / file).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train-images-idx3-ubyte.gz", idx(np.zeros((N_TRAIN, 28, 27))),
         r"images of shape \(28, 28\), got \(28, 27\)"),
        ("train-labels-idx1-ubyte.gz", idx(np.zeros(N_TRAIN - 1)),
         r"a label for each of the 12 images of .*train-images.*, got 11"),
        ("t10k-labels-idx1-ubyte.gz", idx(np.full(N_TEST, 10)), r"labels from 0 to 9, got 10"),
        ("t10k-labels-idx1-ubyte.gz", idx(np.zeros((N_TEST, 28, 28))),
         r"magic number 2049, got 2051 \(images\)"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(data_dir: Path, file: str, content: bytes, message: str) -> None:
    replace(data_dir, file, content)
    with pytest.raises(ValueError, match=message) as error:
        datasets.load("mnist", data_dir)
    assert str(error.value).startswith(str(data_dir / "mnist" / file))


# ---------------------------------------------------------------------- downloads
Mirrors = Callable[..., list[str]]


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    """Serve folders of /served over http on this machine, and make them the mirrors."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = tmp_path / "served"
    good = {name: gzip.compress(content, mtime=0) for name, content in small_files().items()}
    digests = {name: hashlib.md5(content).hexdigest() for name, content in good.items()}
    monkeypatch.setitem(mnist._FILES, "mnist", digests)
    for folder, files in (
        ("good", good),
        ("foreign", dict.fromkeys(good, b"<html>please log in</html>")),
        ("short", {name: content[:-20] for name, content in good.items()}),
    ):
        (served / folder).mkdir(parents=True)
        for name, content in files.items():
            (served / folder / name).write_bytes(content)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def use(*folders: str) -> list[str]:
        port = server.server_address[1]
        dead = "http://127.0.0.1:9/"  # the discard port: nobody listens
        urls = [dead if f == "dead" else f"http://127.0.0.1:{port}/{f}/" for f in folders]
        monkeypatch.setitem(mnist._MIRRORS, "mnist", tuple(urls))
        return urls

    yield use
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "folders", [["good"], ["dead", "good"], ["missing", "good"], ["foreign", "short", "good"]]
)
def test_download_from_the_first_mirror_that_serves_the_right_file(
    tmp_path: Path, mirrors: Mirrors, folders: list[str]
) -> None:
    mirrors(*folders)
    target = tmp_path / "new"
    target.mkdir()
    (x_train, _), (_, y_test) = datasets.load("mnist", target)
    assert len(x_train) == N_TRAIN
    assert len(y_test) == N_TEST
    # whole files under their own names, and no temporary ones beside them
    assert sorted(p.name for p in (target / "mnist").iterdir()) == sorted(small_files())

    mirrors("dead")  # what is there is not asked for again
    assert len(datasets.load("mnist", target)[0][0]) == N_TRAIN


def test_only_missing_files_are_downloaded(tmp_path: Path, mirrors: Mirrors) -> None:
    folder = tmp_path / "mine" / "mnist"
    folder.mkdir(parents=True)
    own = idx(np.arange(N_TRAIN) % 3)  # of another MD5 than the mirrors' file: that is allowed
    (folder / "train-labels-idx1-ubyte").write_bytes(own)
    mirrors("good")
    (_, y_train), _ = datasets.load("mnist", tmp_path / "mine")
    assert y_train.tolist() == [i % 3 for i in range(N_TRAIN)]
    assert not (folder / "train-labels-idx1-ubyte.gz").exists()


def test_when_no_mirror_helps_the_message_says_what_and_where(
    tmp_path: Path, mirrors: Mirrors
) -> None:
    urls = mirrors("dead", "missing", "foreign")
    (tmp_path / "new").mkdir()
    with pytest.raises(ConnectionError) as error:
        datasets.load("mnist", tmp_path / "new")
    message = str(error.value)
    assert "\n" not in message
    assert f"train-images-idx3-ubyte.gz is not in {tmp_path / 'new' / 'mnist'}" in message
    assert f"{urls[0]}: ConnectionError" in message
    assert f"{urls[1]}: HTTPError" in message
    assert f"{urls[2]} serves a file of another MD5" in message
    assert not list((tmp_path / "new" / "mnist").iterdir())


def test_a_mistyped_folder_is_not_made(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors("good")
    mistyped = tmp_path / "dtaa"
    for named in (mistyped, None):
        with pytest.raises(FileNotFoundError, match=r"expected one that exists, got .*dtaa;"):
            datasets.load("mnist", named)
        monkeypatch.setenv("FASTCNN_DATA", str(mistyped))
    assert not mistyped.exists()


def test_the_cache_folder_is_made(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pooch

    mirrors("good")
    monkeypatch.delenv("FASTCNN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    assert len(datasets.load("mnist")[0][0]) == N_TRAIN
    assert (tmp_path / "cache" / "fastcnn" / "mnist").is_dir()
