"""What `import fastcnn` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import fastcnn

MODULES = [
    "backend",
    "callbacks",
    "datasets",
    "functional",
    "inference",
    "keras",
    "losses",
    "metrics",
    "nn",
    "optim",
    "pytorch",
    "reference",
    "schedules",
    "serialization",
    "trainer",
    "zoo",
]


def test_every_public_module_is_there_and_shown() -> None:
    assert set(MODULES) <= set(fastcnn.__all__)
    assert set(fastcnn.__all__) <= set(dir(fastcnn))
    assert [name for name in dir(fastcnn) if name.startswith("_") and name[:2] != "__"] == []
    for name in fastcnn.__all__:
        assert getattr(fastcnn, name) is not None


def test_another_name_is_an_attribute_error() -> None:
    assert not hasattr(fastcnn, "reverence")
    assert not hasattr(fastcnn, "__wrapped__")


SCRIPT = """
import sys
before = set(sys.modules)
import fastcnn
loaded = {name.split(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(*sorted(name for name in loaded if "cython" not in name))
print(*[name for name in fastcnn.__all__ if f"fastcnn.{name}" not in sys.modules])
fastcnn.reference.conv2d, fastcnn.datasets.load, fastcnn.pytorch.load_state, fastcnn.keras.load
from fastcnn import *
print(reference.name, datasets.NAMES[0])
"""


def test_the_import_is_cheap_and_the_rest_comes_when_used() -> None:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True
    )
    loaded, later, used = result.stdout.splitlines()
    assert loaded.split() == ["fastcnn", "numpy"]
    assert {"datasets", "keras", "pytorch", "reference", "zoo"} <= set(later.split())
    assert used == "reference strokes"
