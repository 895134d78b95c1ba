"""Benchmarks: what fastcnn's speed is measured with; run from a clone.

    pytest benchmarks               the backends against each other, op by op
    python -m benchmarks.peers      fastcnn against PyTorch, ONNX Runtime, JAX, Keras, OpenVINO
    python -m benchmarks.plans      what plans cost and give, and fastcnn against another build
    python -m benchmarks.contention a quiet machine, a crowded one, and several processes
    python -m benchmarks.page       docs/benchmarks.md, from what the other wrote with --json

Every benchmark checks its results before it times them, prints what it ran on, and takes what
it compares in one run, in turns.
"""
