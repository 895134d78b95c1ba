"""Where the float64 kernels built for this instruction set land."""
