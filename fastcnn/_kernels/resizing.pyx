"""Images of another size, compiled together (isa.py says why)."""

include "upsample2d.pyx"
include "resample2d.pyx"
