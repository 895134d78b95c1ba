"""The first convolution of grey images, forward and backward, compiled together (isa.py says why)."""

include "conv_block_few.pyx"
include "conv_block_backward_few.pyx"
