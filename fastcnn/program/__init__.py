"""Programs: what a model computes for a batch, written down, differentiated and run.

`trace` runs a model's layers on a backend that computes nothing, and returns the ops that they
called, as a Program. `fuse` (match.py) makes one op of several, `differentiate` appends the
backward pass. `Interpreter` runs a program on any backend, op by op: that is what a program means.
A plan (fastcnn/fast/_plan.py) does the same on the fast backend, to the same bits.
"""

from fastcnn.program.gradient import differentiate
from fastcnn.program.interpreter import Interpreter
from fastcnn.program.program import Node, Program, Value
from fastcnn.program.trace import trace

__all__ = [
    "Interpreter",
    "Node",
    "Program",
    "Value",
    "differentiate",
    "trace",
]
