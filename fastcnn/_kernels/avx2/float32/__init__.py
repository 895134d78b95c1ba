"""Where the float32 kernels built for this instruction set land."""
