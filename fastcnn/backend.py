"""The backend contract: every op that a model needs, declared once.

Two backends satisfy it. `fastcnn.reference` (a module of Python loops) says what the right
answer is; `fastcnn.FastBackend` (an object over compiled kernels) computes it quickly. mypy
checks both against this Protocol, and the tests compare every signature.

Rules that hold for every op:

- Shapes: activations are (N, H, W, C), filters (R, S, C // groups, K), vectors (C,).
  N batch, H W input height and width, C input channels, K filters, R S kernel height and
  width, P Q output height and width.
- Numbers: all float arguments of one call share one dtype, float32 or float64, and so do the
  results; a mix is refused. Boolean, integer and float16 arrays are converted to the dtype of
  the others (float32 where there is none); complex, object, string and extended-precision
  arrays are refused.
- Any layout, alignment and byte order is accepted, read-only too, and never written to.
  Results are fresh, C-contiguous and in native byte order.
- Errors: TypeError for a wrong type or dtype, ValueError for a wrong shape or value, naming the
  argument, what was expected and what came.
- Backward ops take the gradient of the loss with respect to the forward op's result (`dy`),
  then what forward saved, then forward's options.

`stride`, `dilation` and `pool_size` are a number or a (height, width) pair. `padding` is a
number, a pair (height, width), four numbers ((top, bottom), (left, right)), "valid" (none) or
"same" (TensorFlow's: output = ceil(input / stride), the odd pixel goes after).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from numpy.typing import ArrayLike

from fastcnn._branches import Branches
from fastcnn._types import Array, Padding, Size2D

__all__ = [
    "Array",
    "Backend",
    "Padding",
    "Size2D",
]


@runtime_checkable
class Backend(Branches, Protocol):
    """Every op of a backend, forward and backward; see the module's page for common rules."""

    # ------------------------------------------------------------------ convolution
    def conv2d(
        self,
        x: ArrayLike,
        w: ArrayLike,
        b: ArrayLike | None = None,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
    ) -> Array:
        """Cross-correlate images with filters.

        y[n,p,q,k] = b[k] + sum over r,s,c of x[n, p*stride + r*dilation - pad_top,
        q*stride + s*dilation - pad_left, c] * w[r,s,c,k], c running over the channels of k's
        group. P = (H + pads - (R-1)*dilation - 1) // stride + 1, Q alike.

        x (N, H, W, C); w (R, S, C // groups, K); b (K,) or None. Returns y (N, P, Q, K), N from
        zero. An output size below one is a ValueError that shows the arithmetic.
        """

    def conv2d_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        stride: Size2D = 1,
        padding: Padding = 0,
        dilation: Size2D = 1,
        groups: int = 1,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return (dx, dw, db), shaped like x, w and (K,): None for what is not asked for."""

    # ------------------------------------------------------------------ pooling
    def max_pool2d(
        self,
        x: ArrayLike,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
    ) -> tuple[Array, Array]:
        """Take the largest value of each window; pads count as -infinity.

        x (N, H, W, C). Returns y (N, P, Q, C) and argmax of the same shape: the place r*S + s
        of the winner in its R x S window, uint8 for windows of up to 256 places, else int32.
        The first maximum in row-major order wins; a NaN wins over every number, the first NaN
        over later ones. `stride` defaults to `pool_size`; padding is at most half the window.
        With `ceil_mode` a window may hang over the end, but none starts in the padding there.
        """

    def max_pool2d_backward(
        self,
        dy: ArrayLike,
        argmax: ArrayLike,
        x_shape: tuple[int, ...],
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
    ) -> Array:
        """Return dx of shape `x_shape`: each gradient goes to its window's winner, sums add up."""

    def avg_pool2d(
        self,
        x: ArrayLike,
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> Array:
        """Take the mean of each window over the pixels inside the image.

        With `count_include_pad` the declared padding counts as zeros; the part of a window
        that hangs over the right or bottom padding (`ceil_mode`) is still not counted.
        x (N, H, W, C). Returns y (N, P, Q, C); sizes as in max_pool2d.
        """

    def avg_pool2d_backward(
        self,
        dy: ArrayLike,
        x_shape: tuple[int, ...],
        pool_size: Size2D = 2,
        *,
        stride: Size2D | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
    ) -> Array:
        """Return dx of shape `x_shape`: each gradient is shared evenly by its window."""

    def global_avg_pool2d(self, x: ArrayLike) -> Array:
        """Return the mean over height and width: x (N, H, W, C) -> y (N, C)."""

    def global_avg_pool2d_backward(self, dy: ArrayLike, x_shape: tuple[int, ...]) -> Array:
        """Return dx of shape `x_shape`: dy / (H * W) at every pixel."""

    # ------------------------------------------------------------------ batch normalization
    def batch_norm(
        self, x: ArrayLike, gamma: ArrayLike, beta: ArrayLike, *, epsilon: float = 1e-5
    ) -> tuple[Array, Array, Array]:
        """Normalize each channel by the statistics of the batch (Ioffe and Szegedy, 2015).

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and biased variance over all
        axes but the last. x (N, C) or (N, H, W, C); gamma, beta (C,). Returns (y, mean, variance).
        Fewer than two values a channel is a ValueError.
        """

    def batch_norm_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta); dx carries the terms through mean and variance."""

    def batch_norm_inference(
        self,
        x: ArrayLike,
        gamma: ArrayLike,
        beta: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> Array:
        """Normalize each channel by the given mean and variance (those of training)."""

    def batch_norm_inference_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        gamma: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
    ) -> tuple[Array, Array, Array]:
        """Return (dx, dgamma, dbeta) with mean and variance held constant."""

    # ------------------------------------------------------------------ linear
    def linear(self, x: ArrayLike, w: ArrayLike, b: ArrayLike | None = None) -> Array:
        """Return x @ w + b: x (N, C), w (C, K), b (K,) or None -> y (N, K)."""

    def linear_backward(
        self,
        dy: ArrayLike,
        x: ArrayLike,
        w: ArrayLike,
        *,
        input_gradient: bool = True,
        weight_gradient: bool = True,
    ) -> tuple[Array | None, Array | None, Array | None]:
        """Return (dx, dw, db), shaped like x, w and (K,): None for what is not asked for."""

    # ------------------------------------------------------------------ activations
    # Of arrays of any rank. A NaN stays a NaN.
    def relu(self, x: ArrayLike) -> Array:
        """Return max(x, 0)."""

    def relu_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy where y > 0 or y is NaN, else 0; y is what relu returned."""

    def leaky_relu(self, x: ArrayLike, *, negative_slope: float = 0.01) -> Array:
        """Return x where x > 0, else negative_slope * x."""

    def leaky_relu_backward(
        self, dy: ArrayLike, x: ArrayLike, *, negative_slope: float = 0.01
    ) -> Array:
        """Return dy where x > 0, else negative_slope * dy."""

    def elu(self, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return x where x > 0, else alpha * (exp(x) - 1)."""

    def elu_backward(self, dy: ArrayLike, x: ArrayLike, *, alpha: float = 1.0) -> Array:
        """Return dy where x > 0, else dy * alpha * exp(x)."""

    def gelu(self, x: ArrayLike) -> Array:
        """Return x * Phi(x), Phi the normal distribution function (by erf, not its tanh fit)."""

    def gelu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * (Phi(x) + x * phi(x)), phi the normal density."""

    def silu(self, x: ArrayLike) -> Array:
        """Return x * sigmoid(x)."""

    def silu_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""

    def hard_swish(self, x: ArrayLike) -> Array:
        """Return x * min(max(x + 3, 0), 6) / 6 (Howard et al., 2019)."""

    def hard_swish_backward(self, dy: ArrayLike, x: ArrayLike) -> Array:
        """Return 0 where x <= -3, dy where x >= 3, else dy * (2 * x + 3) / 6."""

    def sigmoid(self, x: ArrayLike) -> Array:
        """Return 1 / (1 + exp(-x)), without overflow for any x."""

    def sigmoid_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy * y * (1 - y); y is what sigmoid returned."""

    def tanh(self, x: ArrayLike) -> Array:
        """Return the hyperbolic tangent of x."""

    def tanh_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return dy * (1 - y * y); y is what tanh returned."""

    def softmax(self, x: ArrayLike) -> Array:
        """Return exp(x) / sum(exp(x)) over the last axis, stable for any finite x."""

    def softmax_backward(self, dy: ArrayLike, y: ArrayLike) -> Array:
        """Return y * (dy - sum(dy * y)) over the last axis; y is what softmax returned."""

    # ------------------------------------------------------------------ dropout
    def dropout(self, x: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
        """Return x / (1 - rate) where the mask is True, else 0 (inverted dropout).

        x any shape, mask boolean and alike, 0 <= rate < 1. The caller draws the mask.
        """

    def dropout_backward(self, dy: ArrayLike, mask: ArrayLike, *, rate: float) -> Array:
        """Return dy / (1 - rate) where the mask is True, else 0."""

    # ------------------------------------------------------------------ losses
    def softmax_cross_entropy(
        self,
        logits: ArrayLike,
        labels: ArrayLike,
        *,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> tuple[float, Array]:
        """Return (loss, probabilities): the cross-entropy of softmax(logits) with the labels.

        logits (N, C), N at least 1; labels (N,) integers below C, or (N, C) probabilities t.
        One sample costs -sum over c of class_weights[c] * t'[c] * log softmax(logits)[c],
        t' = t*(1-a) + a/C, a = label_smoothing. The loss is the sum of the costs times
        sample_weights, divided by the sum of weights: of sample_weights times
        class_weights[label] (for probabilities: sum of class_weights * t). Without weights
        that is the mean. The loss is a Python float; probabilities (N, C) serve backward.
        """

    def softmax_cross_entropy_backward(
        self,
        dloss: float,
        probabilities: ArrayLike,
        labels: ArrayLike,
        *,
        label_smoothing: float = 0.0,
        class_weights: ArrayLike | None = None,
        sample_weights: ArrayLike | None = None,
    ) -> Array:
        """Return dlogits (N, C)."""

    def mean_squared_error(self, prediction: ArrayLike, target: ArrayLike) -> float:
        """Return the mean of (prediction - target)**2, a Python float."""

    def mean_squared_error_backward(
        self, dloss: float, prediction: ArrayLike, target: ArrayLike
    ) -> Array:
        """Return dprediction = dloss * 2 * (prediction - target) / size."""

    # ------------------------------------------------------------------ optimizer steps
    # The only ops that write to arguments: to `w` and the state arrays, which must be C-contiguous,
    # writable, native float arrays of one dtype, apart from each other in memory. `dw` counts as it
    # was before the step, wherever it lies.
    def sgd_step(
        self,
        w: Array,
        dw: ArrayLike,
        velocity: Array | None,
        *,
        learning_rate: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        """One step of gradient descent, in place, with PyTorch's rule.

        g = dw + weight_decay * w; velocity = momentum * velocity + g;
        w -= learning_rate * (g + momentum * velocity if nesterov else velocity).
        Without momentum `velocity` may be None and w -= learning_rate * g. A g or a velocity
        beyond the dtype's largest number is infinite, and so is its w.
        """

    def adam_step(
        self,
        w: Array,
        dw: ArrayLike,
        m: Array,
        v: Array,
        *,
        step: int,
        learning_rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        """Step number `step` (from 1) of Adam (Kingma and Ba, 2015), in place.

        g = dw + weight_decay * w, or, `decoupled` (AdamW, Loshchilov and Hutter, 2019),
        g = dw and w *= 1 - learning_rate * weight_decay first; m = beta1*m + (1-beta1)*g;
        v = beta2*v + (1-beta2)*g*g; w -= learning_rate * m / (1 - beta1**step)
        / (sqrt(v / (1 - beta2**step)) + epsilon). A v beyond the dtype's largest number is
        infinite: from then on, or a step later, its w moves no more (but for a decoupled decay).
        """
