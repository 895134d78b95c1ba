"""Kernels that go over arrays by numbers or by rows, compiled together (isa.py says why)."""

include "activations.pyx"
include "softmax.pyx"
include "losses.pyx"
include "dropout.pyx"
include "optimizer.pyx"
include "batches.pyx"
include "peak.pyx"
