"""The first convolution of grey images, both ways, compiled together (isa.py says why)."""

include "conv_block_few.pyx"
include "conv_block_backward_few.pyx"
