"""Normalization, alone and with what follows it, compiled together (isa.py says why)."""

include "batch_norm.pyx"
include "batch_norm_block.pyx"
include "layer_norm.pyx"
include "group_norm.pyx"
include "local_response_norm.pyx"
