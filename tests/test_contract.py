"""Every backend keeps the contract: its signatures, and the same error for the same bad call.

What the reference does with a bad call, the fast backend does too: the same type of exception,
with one sentence that names the op and an argument, or the same result. The whole table of them
also runs in a process of its own, where a crash or a hang shows.
"""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bad_calls import Call, bad_calls
from calls import BUILDERS, OPS, UPDATED, arguments, parameters, run
from compare import assert_results, assert_same_bits, untouched

import fastcnn
from fastcnn import FastBackend, reference
from fastcnn._backends import get_backend
from fastcnn.backend import Backend

if TYPE_CHECKING:
    _: Backend = FastBackend()


# ---------------------------------------------------------------------- signatures
def test_every_op_has_a_call() -> None:
    assert set(BUILDERS) == set(OPS)
    for op in OPS:
        built = arguments(op, np.random.default_rng(0), "float32", reference, height=4)
        assert set(built) == {p.name for p in parameters(op)}, op


@pytest.mark.parametrize("op", OPS)
def test_signatures(op: str, backend: Any) -> None:
    """Names, order, kinds and defaults, and how far inspect.signature can be trusted."""
    declared = inspect.signature(getattr(Backend, op))
    expected = declared.replace(parameters=list(declared.parameters.values())[1:])
    assert inspect.signature(getattr(backend, op)) == expected
    assert isinstance(backend, Backend)


def test_no_backend_has_ops_of_its_own(backend: Any) -> None:
    """What is public and callable is declared, so that no model depends on one backend."""
    names = getattr(backend, "__all__", None) or dir(backend)
    found = {n for n in names if not n.startswith("_") and callable(getattr(backend, n))}
    assert found == set(OPS)


def test_get_backend(backend: Any) -> None:
    assert get_backend(backend) is backend
    assert get_backend("reference") is reference
    assert isinstance(get_backend("fast"), FastBackend)
    for name in ("slow", "", "FAST", "numpy"):
        with pytest.raises(ValueError, match=r'^backend: expected "fast" or "reference", got'):
            get_backend(name)
    for name in (None, 3, object(), np, b"fast", fastcnn):
        with pytest.raises(TypeError, match=r"^backend: expected .* got"):
            get_backend(name)


@pytest.mark.parametrize("num_threads", [0, -1, 2**100])
def test_a_wrong_number_of_threads(num_threads: int) -> None:
    for call in (lambda n: FastBackend(num_threads=n), fastcnn.set_num_threads):
        with pytest.raises(ValueError, match="num_threads: expected"):
            call(num_threads)


@pytest.mark.parametrize("num_threads", [1.0, "2", True, (1,), 1j])
def test_threads_that_are_no_number(num_threads: Any) -> None:
    for call in (lambda n: FastBackend(num_threads=n), fastcnn.set_num_threads):
        with pytest.raises(TypeError, match="num_threads: expected"):
            call(num_threads)


def test_a_wrong_instruction_set() -> None:
    with pytest.raises(ValueError, match=r"^isa: expected one of .*baseline.*, got 'sse9'"):
        FastBackend(isa="sse9")
    for isa in (3, b"avx2", True, ["avx2"]):
        with pytest.raises(TypeError, match=r"^isa: expected"):
            FastBackend(isa=isa)


# ---------------------------------------------------------------------- bad calls
# A call that needs more memory than there is may be refused for that, or for what else is wrong.
MEMORY = "memory"


def outcome(backend: Any, op: str, call: Call) -> tuple[Any, Any]:
    """Return (type of exception, message) or (None, results)."""
    try:
        with np.errstate(all="ignore"):
            return None, run(backend, op, call)
    except MemoryError as error:
        return MEMORY, str(error)
    except Exception as error:
        if isinstance(error, ValueError) and "memory" in str(error):
            return MEMORY, str(error)
        return next((k for k in (TypeError, ValueError) if isinstance(error, k)), type(error)), str(
            error
        )


def alike(one: Any, other: Any, label: str) -> bool:
    """Whether two outcomes agree."""
    gigantic = "huge" in label or "2**" in label
    return one is other or (gigantic and {one, other} == {MEMORY, ValueError})


def comparable(op: str, name: str, label: str) -> bool:
    """Whether the numbers of two results must agree where the call is accepted by both.

    A kernel may multiply pads with the weights or leave them out, scale before it shifts, and
    add 0 * w: that shows where weights are not finite. Nor does it matter what a step does to a
    masked array, or where a huge factor overflows on its way.
    """
    data = ("x", "dy", "y", "logits", "prediction", "target")
    if label in ("NaN", "infinity"):
        return name in data and (op, name) != ("conv2d_backward", "dy")
    if label == "masked":
        return name not in UPDATED.get(op, ())
    return not label.startswith(("2**", "10**"))


def largest(value: Any) -> float:
    size = np.abs(np.asarray(value, np.float64))
    return float(np.max(size, where=np.isfinite(size), initial=0))


def bytes_of(value: Any) -> int:
    """Return the size of an array, or of the largest of a list of them."""
    if isinstance(value, list):
        return max(map(bytes_of, value), default=0)
    return getattr(value, "nbytes", 0)


@pytest.mark.parametrize("op", OPS)
def test_bad_calls_are_refused_alike(op: str, fast_backends: list[Any]) -> None:
    wrong = []
    count = 0
    for name, label, call in bad_calls(op):
        count += 1
        told = f"{op}({name} = {label})"
        expected, said = outcome(reference, op, call)
        small = [
            value
            for key, value in call.items()
            if key not in UPDATED.get(op, ()) and bytes_of(value) < 2**20
        ]
        for backend in fast_backends:
            with untouched(*small):
                error, message = outcome(backend, op, call)
            if not alike(error, expected, label):
                wrong.append(
                    f"{told}: reference {expected} {said}; {backend.isa} {error} {message}"
                )
            elif error is None and expected is None:
                if comparable(op, name, label):
                    dtype = next((r.dtype for r in said if hasattr(r, "dtype")), np.float32)
                    dy = largest(call.get("dy", 0.0))
                    assert_results(message, said, op, dtype, told, largest_dy=dy)
            else:
                wrong += [
                    f"{told}: {text!r}"
                    for kind, text in ((expected, said), (error, message))
                    if kind is not MEMORY and unclear(op, text)
                ]
    assert count > 20
    if wrong:
        told = "\n".join(wrong)
        pytest.fail(f"{len(wrong)} complaints about {count} bad calls:\n{told}", pytrace=False)


def unclear(op: str, message: str) -> bool:
    """Whether a message lacks what every message has: op, argument, expected, got, one line."""
    names = "|".join(["x", *(parameter.name for parameter in parameters(op))])
    return re.fullmatch(rf"{op}: .*\b({names})\b.*expected .*\bgot .*", message) is None


@pytest.mark.parametrize("op", OPS)
def test_a_view_larger_than_any_memory_is_named(op: str, backend: Any) -> None:
    """What NumPy says of it names neither the op nor the argument."""
    good = arguments(op, np.random.default_rng(0), "float32", reference, height=4)
    for name, value in good.items():
        if not isinstance(value, np.ndarray) or name in UPDATED.get(op, ()):
            continue
        same = value.dtype.kind != "f"
        for dtype in (value.dtype,) if same else (bool, np.int8, np.int64, np.float16, np.float32):
            for size in (2**58, 2**60, 2**62):
                shape = (size // np.dtype(dtype).itemsize, *(1,) * (value.ndim - 1))
                view = np.broadcast_to(np.ones((), dtype), shape)
                with pytest.raises((TypeError, ValueError, MemoryError)) as caught:
                    run(backend, op, {**good, name: view})
                assert not unclear(op, str(caught.value)), str(caught.value)


# ---------------------------------------------------------------------- in a process of its own
SCRIPT = """
    import faulthandler, sys
    faulthandler.enable()
    sys.path.insert(0, sys.argv[1])
    from calls import OPS
    from bad_calls import bad_calls
    from test_contract import outcome
    from fastcnn import FastBackend

    backend = FastBackend(isa=sys.argv[2])
    for op in OPS:
        for dtype in ("float32", "float64"):
            calls = list(bad_calls(op, dtype))
            for name, label, call in calls:
                print(op, dtype, name, label, file=sys.stderr)
                outcome(backend, op, call)
            print(op, dtype, len(calls))
    print("done")
"""


def test_no_bad_call_ends_the_process(fast_backend: Any) -> None:
    """A signal, an exit or a hang would end this test, and stderr says at which call."""
    folder = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(folder), fast_backend.isa],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines()[-1] == "done"
    assert len(result.stdout.splitlines()) == 2 * len(OPS) + 1


def test_what_was_accepted_once_is_no_licence(backend: Any) -> None:
    """A call that equals an earlier one to Python, or whose options have changed, is looked at."""
    op, x, w = "conv2d", np.ones((1, 6, 6, 1), np.float32), np.ones((2, 2, 1, 1), np.float32)
    call = backend.conv2d
    first = run(backend, op, {"x": x, "w": w, "stride": 1, "padding": 0})
    for option in ("stride", "dilation", "groups", "padding"):
        for value in (True, 1.0, (True, 1), (1.0, 1), np.array([1.0, 1.0]), np.ones(2, bool)):
            with pytest.raises(TypeError, match=f"{op}: {option}: expected"):
                call(x, w, **{option: value})
    for changing in ([1, 1], np.array([1, 1])):
        assert_same_bits(run(backend, op, {"x": x, "w": w, "stride": changing}), first)
        changing[0] = 2
        assert run(backend, op, {"x": x, "w": w, "stride": changing})[0].shape[1] == 3
        changing[0] = 0
        with pytest.raises(ValueError, match=f"{op}: stride: expected"):
            call(x, w, stride=changing)
    with pytest.raises(ValueError, match=f"{op}: x: expected"):
        call(x[:, :1, :, :], w)
