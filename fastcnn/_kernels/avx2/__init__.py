"""Where the kernels built for this instruction set land."""
