"""fastcnn: convolutional networks on the CPU, small to install, exact, and fast.

    from fastcnn import nn, optim

    model = nn.Sequential([...])
    trainer = fastcnn.Trainer(model, optimizer=optim.SGD(0.05, momentum=0.9))
    trainer.fit(x_train, y_train, epochs=3)

Compiled kernels (`FastBackend`) do the work, a naive reference in Python (`fastcnn.reference`)
says what the right answer is, and the same model and trainer run on either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastcnn import (
    backend,
    callbacks,
    functional,
    inference,
    losses,
    metrics,
    nn,
    optim,
    schedules,
    serialization,
    trainer,
)
from fastcnn._architecture import register
from fastcnn._backends import get_backend
from fastcnn._config import show_config
from fastcnn._heads import with_new_head
from fastcnn._kernels._memory import empty_cache
from fastcnn._sentences import absent
from fastcnn._threads import set_num_threads
from fastcnn.backend import Backend
from fastcnn.fast import FastBackend
from fastcnn.inference import Predictor
from fastcnn.serialization import load
from fastcnn.trainer import Trainer

if TYPE_CHECKING:
    from fastcnn import datasets, keras, onnx, pytorch, reference, zoo

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "FastBackend",
    "Predictor",
    "Trainer",
    "backend",
    "callbacks",
    "datasets",
    "empty_cache",
    "functional",
    "get_backend",
    "inference",
    "keras",
    "load",
    "losses",
    "metrics",
    "nn",
    "onnx",
    "optim",
    "pytorch",
    "reference",
    "register",
    "schedules",
    "serialization",
    "set_num_threads",
    "show_config",
    "trainer",
    "with_new_head",
    "zoo",
]

for _module in (
    backend,
    callbacks,
    functional,
    inference,
    losses,
    metrics,
    nn,
    optim,
    schedules,
    serialization,
    trainer,
):
    vars(_module)["__getattr__"] = absent(_module.__name__)  # what isn't there gets a sentence

if not TYPE_CHECKING:  # a type checker would take it that every name is there

    def __getattr__(name: str) -> Any:
        """Import, now that it is used, a public module that `import fastcnn` spares."""
        if name in ("datasets", "keras", "onnx", "pytorch", "reference", "zoo"):
            return import_module(f"{__name__}.{name}")
        return absent(__name__)(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
