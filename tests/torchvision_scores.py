"""What torchvision's architectures answer with weights that are drawn by a rule.

    python tests/torchvision_scores.py

prints SCORES, where torch and torchvision are installed; the tests need neither. The rule: modules
with arrays of the same names and shapes are counted in the order of the state dict, so that the
n-th of them has the same weights here and there, as load_pytorch_state has it in order.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from fastcnn.backend import Array

Shapes = Mapping[str, tuple[int, ...]]

CLASSES = 5
SHAPE = (72, 56, 3)  # H unlike W, and halved with a rest

# Of image(), in float64; torch 2.13.0 and torchvision 0.28.0.
SCORES: dict[str, list[float]] = {
    "convnext_tiny": [-1.9469276, -2.2609083, -0.93489471, -2.9823748, 0.17122396],
    "densenet121": [-11.369083, 0.64379983, -0.42043282, 1.1618774, 3.9861945],
    "efficientnet_b0": [-3.8001393, 2.0122125, -2.6994303, -3.6968153, 4.6320462],
    "googlenet": [-1.039697, -5.4769, 22.3419, 19.574304, -3.8851813],
    "mobilenet_v2": [-2.9986712, 1.4682285, -5.4398696, 2.0784168, -0.1569659],
    "mobilenet_v3_large": [-292.6512, 453.06238, -169.6117, -211.92144, -178.24687],
    "mobilenet_v3_small": [-4.6374459, -4.1556057, -0.069771658, -2.5956762, -1.6932462],
    "regnet_y_400mf": [32.935081, 276.44661, 60.791793, 198.88032, -61.800458],
    "resnet18": [-31.871666, 13.859504, 13.451582, -32.746878, -50.359436],
    "resnet34": [-394.84208, -62.542309, -103.73269, -1097.0523, -985.92029],
    "resnet50": [6260.8693, 3610.5586, -6484.404, -2791.9484, 4863.6664],
    "shufflenet_v2_x1_0": [-241.90272, -498.90889, 741.26133, 198.31316, -170.05865],
    "squeezenet1_0": [0, 0.7982638, 0.083483387, 0.2080242, 3.8853853],
    "squeezenet1_1": [0, 0.56026409, 0.014704232, 0.028493463, 4.5996146],
}


def image() -> Array:
    """Return a batch of one image."""
    return np.random.default_rng(0).standard_normal((1, *SHAPE))


def drawn(modules: Iterable[Shapes]) -> Iterator[dict[str, Array]]:
    """Yield the arrays of each module, whose names and shapes are PyTorch's."""
    seen: Counter[str] = Counter()
    for shapes in modules:
        bare = {name: _bare(shape) for name, shape in sorted(shapes.items())}
        seen[f"{bare}"] += 1
        rng = np.random.default_rng(zlib.crc32(f"{bare} {seen[f'{bare}']}".encode()))
        yield {name: _array(rng, name, bare[name]).reshape(shapes[name]) for name in bare}


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without the axes of one pixel, which a dense layer's weights have not."""
    return shape[:-2] if len(shape) > 2 and shape[-2:] == (1, 1) else tuple(shape)


def _array(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if len(shape) > 1:
        return rng.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))
    if name in ("weight", "running_var", "layer_scale"):
        return rng.uniform(0.5, 1.5, shape)
    return rng.standard_normal(shape) * 0.1


def main() -> None:
    """Print the scores of torchvision's networks."""
    import torch
    import torchvision

    for name in SCORES:
        options: dict[str, Any] = {}
        if name == "googlenet":
            options = {"aux_logits": False, "init_weights": False}
        model = getattr(torchvision.models, name)(num_classes=CLASSES, **options).double().eval()
        modules: dict[str, dict[str, Any]] = {}
        for key, tensor in model.state_dict().items():
            prefix, _, local = key.rpartition(".")
            if local != "num_batches_tracked":
                modules.setdefault(prefix, {})[local] = tensor
        shapes = [{local: tuple(each.shape) for local, each in held.items()}
                  for held in modules.values()]  # fmt: skip
        for held, arrays in zip(modules.values(), drawn(shapes), strict=True):
            for local, array in arrays.items():
                held[local].copy_(torch.tensor(array))
        with torch.inference_mode():
            scores = model(torch.tensor(image().transpose(0, 3, 1, 2)))[0].tolist()
        print(f'    "{name}": [{", ".join(f"{score:.8g}" for score in scores)}],')


if __name__ == "__main__":
    main()
