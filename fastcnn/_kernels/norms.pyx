"""Batch normalization, alone and with what follows it, compiled together (isa.py says why)."""

include "batch_norm.pyx"
include "batch_norm_block.pyx"
