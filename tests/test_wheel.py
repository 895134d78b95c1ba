"""The built wheel: what is in it, and that it works by itself, outside of the clone."""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from source_tree import ROOT, copy_compiled, copy_sources, environment, sources

import fastcnn
from fastcnn import _kernels
from fastcnn._kernels.isa import DTYPES, compiled, instruction_sets

SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")


def run(*command: str | Path, cwd: Path, timeout: float = 120, **changes: str) -> str:
    """Run a command away from the repository; return what it printed."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(**changes),
        check=False,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-4000:]
    return result.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with what is compiled here: nothing of it has to be compiled anew."""
    folder = tmp_path_factory.mktemp("above") / "fastcnn"
    copy_sources(folder)
    copy_compiled(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    options = ("--wheel", "--no-isolation", "--outdir", out)
    run(sys.executable, "-m", "build", *options, clone, cwd=out, timeout=600)
    (built,) = out.glob("*.whl")
    return built


def environment_with(folder: Path, *package: str | Path) -> Path:
    """Install into a fresh virtual environment; NumPy and the like are borrowed from this one."""
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    bin_ = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    site = run(
        bin_ / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    # A path in a .pth file is searched last, and .pth files in it (an editable install) are not.
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    Path(site.strip(), "borrowed.pth").write_text("\n".join(sorted(paths)) + "\n")
    pip = (sys.executable, "-m", "pip", "--python", bin_ / "python", "install", "--quiet")
    options = ("--no-deps", "--no-index", "--no-build-isolation")
    run(*pip, *options, *package, cwd=folder, timeout=600)
    return bin_


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with(tmp_path_factory.mktemp("installed"), wheel)


@pytest.fixture(scope="module")
def editable(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with(tmp_path_factory.mktemp("editable"), "--editable", clone)


# ---------------------------------------------------------------------- contents
def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= 7_000_000  # as README.md says


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
    info = f"fastcnn-{fastcnn.__version__}.dist-info"
    python = {
        "fastcnn/" + path.as_posix() if path.parts[0] == "reference" else path.as_posix()
        for path in sources()
        if path.suffix in (".py", ".pyi", ".typed")
    }
    kernels = {
        f"fastcnn/_kernels/{isa.name}/{dtype}/{extension}{SUFFIX}"
        for isa in instruction_sets()
        for dtype in DTYPES
        for extension in compiled(dtype).values()
    }
    beside = ["_cpu", "_memory", "_cython_shared", *(["_team"] if _kernels.has_team() else [])]
    shared = {f"fastcnn/_kernels/{name}{SUFFIX}" for name in beside}
    package = {name for name in names if not name.startswith(info)}
    assert package == python | kernels | shared
    assert {f"{info}/METADATA", f"{info}/RECORD", f"{info}/entry_points.txt"} <= names
    assert f"{info}/licenses/LICENSE" in names


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"fastcnn-{fastcnn.__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert metadata["Name"] == "fastcnn"
    assert metadata["Version"] == fastcnn.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "BSD-3-Clause"
    required = {
        re.split(r"[ <>=!~;]", line)[0]
        for line in metadata.get_all("Requires-Dist", [])
        if "extra" not in line
    }
    assert required == {"numpy", "safetensors", "tqdm", "pooch"}
    assert "fastcnn = fastcnn.cli:main" in scripts


def test_nothing_in_it_tells_where_it_was_built(wheel: Path) -> None:
    places = [str(ROOT).encode(), str(wheel.parent.parent).encode()]
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            for place in places:
                assert place not in content, f"{name} holds {place.decode()}"


# ---------------------------------------------------------------------- use
def test_it_is_the_installed_package_that_is_imported(installed: Path, tmp_path: Path) -> None:
    script = "import fastcnn, fastcnn.reference as r; print(fastcnn.__file__); print(r.__file__)"
    for file in run(installed / "python", "-c", script, cwd=tmp_path).splitlines():
        assert installed.parent in Path(file).parents


WHERE = "import fastcnn, fastcnn.reference as r; print(fastcnn.__file__); print(r.__file__)"
WHERE += "; fastcnn.Trainer, fastcnn.datasets, r.conv2d, fastcnn.FastBackend().relu([1.0])"


def test_a_script_inside_the_clone_works_too(installed: Path, clone: Path) -> None:
    """It finds the sources before what is installed, so the kernels lie there as well."""
    for file in run(installed / "python", "-c", WHERE, cwd=clone).splitlines():
        assert clone in Path(file).parents


def test_an_editable_install_compiles_nothing_twice(
    wheel: Path, clone: Path, editable: Path
) -> None:
    """It keeps its objects where the wheel, built before it from the same clone, kept them."""
    (kept,) = (clone / "build").glob("lib.*")
    newest = max(path.stat().st_mtime_ns for path in kept.rglob(f"*{SUFFIX}"))
    assert newest <= wheel.stat().st_mtime_ns


@pytest.mark.parametrize("place", ["above", "inside", "elsewhere"])
def test_an_editable_install_is_found_from(
    editable: Path, clone: Path, place: str, tmp_path: Path
) -> None:
    """In the folder above, the clone itself looks like a package without an __init__.py."""
    cwd = {"above": clone.parent, "inside": clone, "elsewhere": tmp_path}[place]
    for file in run(editable / "python", "-c", WHERE, cwd=cwd).splitlines():
        assert clone in Path(file).parents


TYPED = """
import fastcnn
from fastcnn import nn, reference

model: nn.Sequential = nn.Sequential([nn.Dense(4)])
stop = fastcnn.callbacks.EarlyStopping()
wrong_1: int = fastcnn.Trainer
wrong_2: int = nn.Dense(1)
wrong_3: int = reference.relu([1.0])
wrong_4: int = fastcnn.reference.name
wrong_5: int = fastcnn.datasets.load("strokes")
fastcnn.no_such_name
"""


def test_a_type_checker_follows_an_editable_install(
    editable: Path, clone: Path, tmp_path: Path
) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(TYPED)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-executable", editable / "python", "script.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
        check=False,
    )
    told = checked.stdout.strip().splitlines()
    assert [line.split(":")[1] for line in told[:-1]] == ["7", "8", "9", "10", "11", "12"], checked
    assert all("Incompatible types in assignment" in line for line in told[:5]), told
    assert 'Module has no attribute "no_such_name"' in told[5]


def test_it_trains_to_the_same_bits_as_the_clone(installed: Path, tmp_path: Path) -> None:
    """`fastcnn train` away from the repository, and the same command of this installation."""
    options = ("train", "--limit-train", "256", "--limit-test", "128", "--epochs", "2")
    options += ("--batch-size", "64", "--seed", "3")
    there = run(installed / "fastcnn", *options, "--output", "there", cwd=tmp_path)
    here = run(sys.executable, "-m", "fastcnn", *options, "--output", "here", cwd=tmp_path)
    last = there.strip().splitlines()[-1]
    assert re.fullmatch(r"test accuracy: [01]\.\d{4}", last)
    assert last == here.strip().splitlines()[-1]
    histories = [json.loads((tmp_path / w / "history.json").read_text()) for w in ("here", "there")]
    assert histories[0] == histories[1]
    assert len(histories[0]["step_loss"]) == 8
    shown = run(installed / "fastcnn", "info", "there/model.safetensors", cwd=tmp_path)
    assert "Conv2D" in shown
    models = [(tmp_path / w / "model.safetensors").read_bytes() for w in ("here", "there")]
    assert models[0] == models[1]


SCRIPT = """
import numpy as np
import fastcnn
from fastcnn import nn

x, y = np.random.default_rng(0).random((16, 8, 8, 1)), np.arange(16) % 4
losses = []
for backend in ("fast", "reference"):
    layers = [nn.Conv2D(3, 3, activation="relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(4)]
    trainer = fastcnn.Trainer(nn.Sequential(layers), backend=backend, seed=0)
    losses.append(trainer.fit(x, y, batch_size=4, verbose=False)["step_loss"])
np.testing.assert_allclose(*losses, atol=1e-4)
print(fastcnn.FastBackend().isa, fastcnn.__version__)
"""


@pytest.mark.parametrize("isa", _kernels.available())
def test_both_backends_train_from_the_wheel(installed: Path, tmp_path: Path, isa: str) -> None:
    printed = run(installed / "python", "-c", SCRIPT, cwd=tmp_path, FASTCNN_ISA=isa)
    assert printed.split() == [isa, fastcnn.__version__]
