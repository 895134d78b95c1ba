"""The reference stays what it is: loops, NumPy, the standard library, and the contract."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fastcnn.backend import Backend

if TYPE_CHECKING:
    import reference as oracle  # where the sources lie, for mypy at the root of the repository

    _: Backend = oracle

# What would do an op's work in one call, and so could share a mistake with another backend.
BANNED = {
    *("einsum", "einsum_path", "dot", "vdot", "matmul", "tensordot", "inner", "outer", "kron"),
    *("vecdot", "matvec", "vecmat", "multi_dot", "linalg"),
    *("as_strided", "sliding_window_view", "stride_tricks", "convolve", "correlate", "fft"),
    *("eval", "exec", "__import__", "import_module"),
}
OWN = {"matmul"}  # an op of the reference's own, which says its name in messages
OPS = [name for name in dir(Backend) if not name.startswith("_")]


def faults(source: str) -> list[str]:
    """Name every use of a banned function, the @ operator and every foreign import."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            if node.level > 1:
                found.append("a relative import from outside the package")
            elif node.level == 0:
                names = [alias.name for alias in node.names]
                names.append((node.module or "").split(".")[-1])
                found += _foreign(node.module or "")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                names += alias.name.split(".")
                found += _foreign(alias.name)
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.MatMult):
            names = ["@"]
        elif isinstance(node, ast.Constant) and node.value in BANNED - OWN:
            names = [str(node.value)]  # getattr(np, "dot")
        found += [name for name in names if name in BANNED or name == "@"]
    return found


def _foreign(module: str) -> list[str]:
    top = module.split(".")[0]
    return [] if top == "numpy" or top in sys.stdlib_module_names else [f"import {module}"]


def test_no_file_of_the_reference_takes_a_short_cut(reference: ModuleType) -> None:
    files = sorted(Path(inspect.getfile(reference)).parent.rglob("*.py"))
    assert len(files) >= 12
    assert {file.name: faults(file.read_text(encoding="utf-8")) for file in files} == {
        file.name: [] for file in files
    }


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\ny = np.einsum('nc,ck->nk', x, w)",
        "y = x @ w",
        "y @= w",
        "y = x.dot(w)",
        "from numpy import matmul",
        "from numpy import tensordot as t",
        "np.lib.stride_tricks.as_strided(x)",
        "from numpy.lib.stride_tricks import sliding_window_view",
        "np.convolve(x, w)",
        "getattr(np, 'dot')(x, w)",
        "np.multiply.outer(x, w)",
        "import scipy.signal",
        "import fastcnn",
        "from fastcnn._kernels import conv2d",
        "from .. import fast",
    ],
)
def test_each_short_cut_would_be_seen(source: str) -> None:
    assert faults(source)


def test_it_has_every_op_with_the_signature_of_the_contract(reference: ModuleType) -> None:
    assert isinstance(reference, Backend)
    assert set(OPS) | {"name"} == set(reference.__all__)
    for op in OPS:
        declared = inspect.signature(getattr(Backend, op))
        self, *parameters = declared.parameters.values()
        assert self.name == "self"
        expected = declared.replace(parameters=parameters)
        assert inspect.signature(getattr(reference, op)) == expected, op


def test_every_public_op_is_documented(reference: ModuleType) -> None:
    assert [op for op in OPS if not getattr(reference, op).__doc__] == []


def test_the_callers_floating_point_mode_neither_matters_nor_changes(
    reference: ModuleType,
) -> None:
    with np.errstate(all="raise"):
        before = np.geterr()
        y = reference.relu(np.array([np.nan, -np.inf, np.inf], np.float32))
        reference.softmax(np.array([1e38, -1e38], np.float32))
        reference.conv2d(np.full((1, 2, 2, 1), 3e38, np.float32), np.ones((2, 2, 1, 1), "f4"))
        assert np.geterr() == before
    np.testing.assert_array_equal(y, [np.nan, 0, np.inf])
