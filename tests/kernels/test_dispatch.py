"""What an import does and does not do, and which kernels are chosen, in processes of their own."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcnn
from fastcnn import _kernels
from fastcnn._kernels.isa import DTYPES, TOGETHER, instruction_sets, modules

TESTS = str(Path(__file__).parents[1])
SOURCES = Path(__file__).parents[2] / "fastcnn" / "_kernels"
LINUX = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to look at")


def python(script: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh process; None removes a variable from its environment."""
    variables = {**os.environ, "PYTHONWARNINGS": "error", **environment}
    for name in ("FASTCNN_ISA", "OMP_NUM_THREADS"):
        if name not in environment:
            variables.pop(name, None)
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.append({TESTS!r})\n{textwrap.dedent(script)}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in variables.items() if value is not None},
        check=False,
    )


def output(script: str, **environment: str | None) -> str:
    result = python(script, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


# ---------------------------------------------------------------------- instruction sets
def test_this_installation_holds_every_instruction_set_of_the_machine() -> None:
    names = tuple(isa.name for isa in instruction_sets())
    assert _kernels.built() == names
    assert names[0] == "baseline"
    assert _kernels.available()[0] == "baseline"
    assert set(_kernels.available()) <= set(names)


@pytest.mark.parametrize(
    ("machine", "names"),
    [
        ("x86_64", ["baseline", "avx2", "avx512"]),
        ("AMD64", ["baseline", "avx2", "avx512"]),
        ("aarch64", ["baseline"]),
        ("arm64", ["baseline"]),
        ("riscv64", ["baseline"]),
    ],
)
def test_instruction_sets_of_other_machines(machine: str, names: list[str]) -> None:
    assert [isa.name for isa in instruction_sets(machine)] == names


def test_every_kernel_is_there_for_each_instruction_set(fast_backend: Any) -> None:
    for dtype in DTYPES:
        assert set(vars(_kernels.load(fast_backend.isa, dtype))) == set(modules(dtype))


@pytest.mark.parametrize("extension", TOGETHER)
def test_kernels_compiled_together_are_those_of_the_table(extension: str) -> None:
    source = (SOURCES / f"{extension}.pyx").read_text("utf-8")
    assert (
        tuple(re.findall(r'^include "(\w+)\.pyx"$', source, re.MULTILINE)) == (TOGETHER[extension])
    )


TRAINED = """
    import numpy as np
    import fastcnn
    from fastcnn import nn

    rng = np.random.default_rng(0)
    x, y = rng.random((64, 10, 10, 1), np.float32), rng.integers(0, 4, 64)
    model = nn.Sequential([
        nn.Conv2D(20, 3, activation="relu"), nn.MaxPool2D(2), nn.BatchNorm(),
        nn.Flatten(), nn.Dense(4),
    ])
    trainer = fastcnn.Trainer(model, seed=0)
    trainer.fit(x, y, epochs=2, batch_size=16, verbose=False)
    print(trainer.backend.isa, *trainer.history["step_loss"])
"""


def test_a_forced_instruction_set_is_used_and_all_agree() -> None:
    losses = {}
    for isa in _kernels.available():
        used, *values = output(TRAINED, FASTCNN_ISA=isa).split()
        assert used == isa
        losses[isa] = [float(value) for value in values]
    widest = _kernels.available()[-1]
    used, *values = output(TRAINED).split()
    assert used == widest
    assert [float(value) for value in values] == losses[widest]
    assert output(TRAINED, FASTCNN_ISA="").split()[0] == widest
    for values in losses.values():
        assert len(values) == 8
        assert values == pytest.approx(losses["baseline"], abs=1e-4)


def test_only_the_chosen_kernels_are_loaded() -> None:
    """Even the import of a module runs code of its instruction set."""
    script = """
        import sys
        import numpy as np
        import fastcnn
        print(*[m for m in sys.modules if m.startswith("fastcnn._kernels.")])
        fastcnn.FastBackend().relu(np.ones(3, np.float32))
        print(*[m for m in sys.modules if m.startswith("fastcnn._kernels.")])
    """
    before, after = output(script, FASTCNN_ISA="baseline").splitlines()
    for isa in _kernels.built():
        assert f"fastcnn._kernels.{isa}." not in before
    assert "fastcnn._kernels.baseline.float32.elementwise" in after
    for isa in _kernels.built()[1:]:
        assert f"fastcnn._kernels.{isa}.float32." not in after


@pytest.mark.parametrize("isa", ["avx9000", "AVX2", "baseline ", "auto"])
def test_an_unknown_instruction_set_is_refused_with_the_choices(isa: str) -> None:
    result = python("import fastcnn\nfastcnn.FastBackend()", FASTCNN_ISA=isa)
    assert result.returncode == 1
    *_, message = result.stderr.strip().splitlines()
    assert message.startswith("ValueError: FASTCNN_ISA: expected one of ")
    for name in _kernels.available():
        assert name in message
    assert f"got {isa!r}" in message


def test_how_to_convolve_is_a_known_name() -> None:
    with pytest.raises(ValueError, match="convolution: expected one of auto, direct, winograd"):
        fastcnn.FastBackend(convolution="fft")
    for wrong in (None, np.array(["auto", "direct"])):
        with pytest.raises(TypeError, match="convolution: expected a name"):
            fastcnn.FastBackend(convolution=wrong)  # type: ignore[arg-type]
    assert "convolution='direct'" in repr(fastcnn.FastBackend(convolution="direct"))


@pytest.mark.skipif(len(_kernels.built()) == 1, reason="there is one instruction set alone")
def test_an_instruction_set_beyond_this_cpu_is_refused_and_not_taken() -> None:
    """On a CPU that, so the detection is told, has no features at all."""
    script = """
        from types import SimpleNamespace
        import fastcnn
        from fastcnn import _kernels

        _kernels._cpu = SimpleNamespace(features=frozenset)
        _kernels.available.cache_clear()
        print(fastcnn.FastBackend().isa)
        for isa in _kernels.built()[1:]:
            try:
                fastcnn.FastBackend(isa=isa)
            except ValueError as error:
                print(error)
    """
    used, *messages = output(script).splitlines()
    assert used == "baseline"
    assert len(messages) == len(_kernels.built()) - 1
    for isa, message in zip(_kernels.built()[1:], messages, strict=True):
        assert message.startswith("isa: expected one of")
        assert "baseline" in message
        assert f"got {isa!r}" in message
        assert "CPU" in message
    forced = script.replace("print(fastcnn.FastBackend().isa)", "fastcnn.FastBackend()")
    result = python(forced, FASTCNN_ISA=_kernels.built()[-1])
    assert result.returncode == 1
    assert "ValueError: FASTCNN_ISA: expected one of" in result.stderr


@pytest.mark.parametrize("missing", ["baseline|avx", ".*conv2d", "elementwise", "_memory"])
def test_a_build_in_part_says_what_to_run(missing: str) -> None:
    script = rf"""
        import re
        from importlib import machinery

        find = machinery.PathFinder.find_spec

        def absent(name, *arguments):
            is_missing = re.match(r"fastcnn\._kernels\.(.*\.)?({missing})", name)
            return None if is_missing else find(name, *arguments)

        machinery.PathFinder.find_spec = staticmethod(absent)
        import fastcnn
        fastcnn.FastBackend().softmax([[1.0, 2.0]])
    """
    result = python(script)
    assert result.returncode == 1
    *_, message = result.stderr.strip().splitlines()
    assert re.fullmatch(
        r"ImportError: fastcnn in .* has (no|not all) kernels compiled for this Python: run "
        r"`pip install -e \.` there",
        message,
    )


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    fastcnn.show_config()
    text = capsys.readouterr().out
    for part in (
        fastcnn.__version__,
        platform.python_version(),
        platform.machine(),
        *_kernels.available(),
        "thread runtime",
    ):
        assert part in text
    used = [line for line in text.splitlines() if "instruction set used" in line]
    assert used[0].split()[-1] == _kernels.select()
    shown = output("import fastcnn; fastcnn.show_config()", FASTCNN_ISA="baseline")
    assert "instruction set used" in shown
    assert next(s for s in shown.splitlines() if "used" in s).split()[-1] == "baseline"


# ---------------------------------------------------------------------- threads
@pytest.mark.skipif(not _kernels.has_openmp(), reason="built without OpenMP: one thread it is")
def test_omp_num_threads() -> None:
    script = """
        import os
        import fastcnn
        backend = fastcnn.FastBackend()
        print(backend.num_threads)
        fastcnn.set_num_threads(2)
        print(backend.num_threads)
        for value in ("5", "", "0", "-1", "many", "1.5"):
            os.environ["OMP_NUM_THREADS"] = value
            fastcnn.set_num_threads(None)
            print(backend.num_threads)
    """
    of_the_machine = output("import fastcnn; print(fastcnn.FastBackend().num_threads)").strip()
    assert output(script, OMP_NUM_THREADS="3").split() == ["3", "2", "5", *[of_the_machine] * 5]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity_is_kept_to() -> None:
    script = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import fastcnn
        print(fastcnn.FastBackend().num_threads)
    """
    assert output(script).split() == ["1"]


# ---------------------------------------------------------------------- import
def test_import_loads_numpy_and_the_standard_library_alone() -> None:
    script = """
        import sys
        import numpy
        before = set(sys.modules)
        import fastcnn
        from fastcnn import callbacks, datasets, losses, metrics, reference
        print(*{name.split(".")[0] for name in set(sys.modules) - before})
    """
    loaded = set(output(script).split())
    # What Cython's modules share registers itself under such a name.
    foreign = {
        name
        for name in loaded - {"fastcnn"} - set(sys.stdlib_module_names)
        if not name.startswith(("_cython_", "cython_runtime", "numpy"))
    }
    assert foreign == set()


def test_import_is_quick() -> None:
    """At most 0.08 s beyond NumPy's own import: the best of some attempts on a busy machine.

    Python's files are compiled by the first of them, whatever the environment says.
    """
    script = """
        import time
        import numpy
        start = time.perf_counter()
        import fastcnn
        print(time.perf_counter() - start)
    """
    times = []
    for _ in range(12):
        times.append(float(output(script, PYTHONDONTWRITEBYTECODE=None)))
        if times[-1] <= 0.08:
            return
    pytest.fail(f"the import took {min(times):.3f} s at best")


@LINUX
def test_import_starts_no_thread() -> None:
    script = """
        import os
        import numpy
        before = len(os.listdir("/proc/self/task"))
        import fastcnn
        fastcnn.FastBackend()
        from fastcnn._config import config_text
        config_text()
        print(len(os.listdir("/proc/self/task")) - before)
    """
    assert output(script).split() == ["0"]


MODE = """
    import ctypes, platform
    import numpy as np

    libm = ctypes.CDLL(None)

    def mode():
        # The rounding direction, and whether subnormal numbers live: as inputs, and as results.
        tiny = np.float32(1e-38)
        lives = (np.float32(1e-40) * np.float32(1), tiny * np.float32(0.01))
        environment = ctypes.create_string_buffer(256)
        libm.fegetenv(environment)
        # On x86-64 glibc's 28th byte begins the SSE control word; its last bits are mere flags.
        x86 = platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
        word = int.from_bytes(environment.raw[28:32], "little") & ~0x3F if x86 else 0
        return libm.fegetround(), [float(v) for v in lives], word

    before = mode()
    assert all(before[1]), before
    import fastcnn
    from fastcnn import FastBackend
    assert mode() == before, (mode(), before)
    from calls import OPS, arguments, run
    backend = FastBackend(num_threads=2)
    for op in OPS:
        size = dict(images=48, height=72, width=3, channels=32)
        call = arguments(op, np.random.default_rng(0), "float32", backend, **size)
        run(backend, op, call)
        assert mode() == before, (op, mode(), before)
    print("same")
"""


@LINUX
def test_the_callers_floating_point_mode_stays() -> None:
    assert output(MODE) == "same\n"


# PyTorch is asked for in CI; the others are tried where they happen to be.
GUESTS = ["torch", *(name for name in ("sklearn", "onnxruntime") if find_spec(name))]


@pytest.mark.parametrize("guest", GUESTS)
@pytest.mark.parametrize("first", ["fastcnn", "guest"])
def test_guests_in_any_order(guest: str, first: str) -> None:
    """Two thread runtimes may meet in one process: both compute, and it ends."""
    if find_spec(guest) is None:
        pytest.skip(f"{guest} is not installed: no guest to try")
    names = ("fastcnn", guest) if first == "fastcnn" else (guest, "fastcnn")
    script = f"""
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a guest has to say
            import {names[0]}
            import {names[1]}
        import numpy as np
        from calls import arguments, run
        from fastcnn import FastBackend
        backend = FastBackend(num_threads=2)
        size = dict(images=48, height=72, width=3, channels=32)
        call = arguments("conv2d", np.random.default_rng(0), "float32", backend, **size)
        y = run(backend, "conv2d", call)[0]
        if {guest!r} == "torch":
            a = torch.rand(300, 300)
            assert torch.isfinite(a @ a).all()
        assert (run(backend, "conv2d", call)[0] == y).all()
        print("both")
    """
    assert output(script) == "both\n"
