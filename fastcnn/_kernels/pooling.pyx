"""Both poolings, compiled together (isa.py says why)."""

include "max_pool2d.pyx"
include "avg_pool2d.pyx"
