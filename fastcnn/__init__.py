"""fastcnn: convolutional networks on the CPU, small to install, exact, and fast.

    from fastcnn import nn, optim

    model = nn.Sequential([...])
    trainer = fastcnn.Trainer(model, optimizer=optim.SGD(0.05, momentum=0.9))
    trainer.fit(x_train, y_train, epochs=3)

Compiled kernels (`FastBackend`) do the work, a naive reference in Python (`fastcnn.reference`)
says what the right answer is, and the same model and trainer run on either.
"""

from __future__ import annotations

from fastcnn import functional, nn, optim, schedules
from fastcnn._architecture import register
from fastcnn._config import show_config
from fastcnn._kernels._memory import empty_cache
from fastcnn._threads import set_num_threads
from fastcnn.backend import Backend, get_backend
from fastcnn.fast import FastBackend
from fastcnn.inference import Predictor
from fastcnn.serialization import load
from fastcnn.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "FastBackend",
    "Predictor",
    "Trainer",
    "empty_cache",
    "functional",
    "get_backend",
    "load",
    "nn",
    "optim",
    "register",
    "schedules",
    "set_num_threads",
    "show_config",
]
