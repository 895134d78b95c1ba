"""Programs: what a model computes, written down, differentiated and run."""

from fastcnn.program.gradient import differentiate
from fastcnn.program.interpreter import Interpreter, run_traced
from fastcnn.program.program import Node, Program, Value
from fastcnn.program.trace import trace

__all__ = [
    "Interpreter",
    "Node",
    "Program",
    "Value",
    "differentiate",
    "run_traced",
    "trace",
]
