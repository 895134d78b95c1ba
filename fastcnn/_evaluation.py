"""A trainer's model in inference: measured, asked, and made ready to serve."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastcnn import nn
from fastcnn._batches import Samples, floats
from fastcnn._loss import Loss
from fastcnn._options import integer
from fastcnn._samples import ArraysLike, as_arrays, given, require_weight
from fastcnn._sentences import explained
from fastcnn._setup import Setup
from fastcnn._several import (
    Arrays,
    dict_names_of,
    each,
    ends_in,
    input_ends,
    listed,
    output_ends,
    outputs_of,
    under,
)
from fastcnn._tally import Tally, tally_of
from fastcnn._types import Array
from fastcnn.backend import Backend
from fastcnn.inference import Predictor, Run, compiled
from fastcnn.losses import called
from fastcnn.nn._places import count_of, is_several

__all__ = ["Evaluation"]


class _Compiled(NamedTuple):
    """What `compiled` made of a model and a backend, and what is known of the model's outputs."""

    model: nn.Module
    backend: Backend
    run: Run
    gives_several: bool
    names: tuple[str, ...] | None  # of the dict that it gives


class Evaluation(Setup):
    """What a trainer says of its model, between two steps of training."""

    _run: _Compiled | None = None

    @explained
    def evaluate(
        self,
        x: ArraysLike,
        y: ArraysLike,
        *,
        batch_size: int = 128,
        sample_weight: ArrayLike | None = None,
    ) -> dict[str, float]:
        """Return {"loss": ..., "accuracy": ...} over the data; nothing is trained.

        The numbers are those of all samples together, whatever the batch size. Behind the loss come
        the trainer's metrics: by default the accuracy, of labels of pixels that of pixels; there is
        none with losses of numbers, as mean_squared_error, and functions, nor of several outputs.
        Their own losses and metrics are "loss_0", "f1_0" and so on, or "loss_digit" where the
        outputs have names.
        """
        batch_size = integer(batch_size, "evaluate: batch_size")
        samples = self._samples(given(x, y, sample_weight, self._sides()))
        counted = samples.targets if self._fitted_to is None else self._fitted_to
        fitted = self.loss.fitted(counted, self.model.output_shape)
        require_weight(samples.targets, samples.weights, fitted, "")
        return self._steps.unchanged(lambda: self._measure(samples, fitted, batch_size))

    def _measure(self, samples: Samples, fitted: Loss, batch_size: int) -> dict[str, float]:
        run = self._compiled().run
        tally = self._tally(fitted, samples.targets)
        for start in range(0, len(samples), batch_size):
            images, target, of_samples = samples.part(start, batch_size)
            prediction = run(*(floats(one, self.dtype) for one in listed(images)))
            target = each(floats, target, samples.target_dtype)
            loss, _ = called(fitted, prediction, target, self.backend, of_samples)
            tally.add(loss, prediction, target, of_samples)
        return tally.numbers()

    def _tally(self, fitted: Loss, targets: Arrays | None = None) -> Tally:
        """Return what is measured beside a loss; of targets, it is found out whether that fits."""
        tally = tally_of(fitted, output_ends(self.model).names, self.metrics)
        if targets is not None and self.metrics:
            first = each(lambda target: target[:1], targets)
            tally.require_fit(self.model.output_shape, self.dtype, first)
        return tally

    @explained
    def predict(self, x: ArraysLike, *, batch_size: int = 128) -> Array:
        """Return the model's outputs, for a classifier logits (n, classes).

        Of a model with several outputs they are a list of arrays; of one that was made with a dict
        of outputs, a dict.

        While another thread trains, they are those of the model between two steps, as is what
        `evaluate`, `predictor` and `save_state` see. A `predictor` never waits for a step.
        """
        batch_size = integer(batch_size, "predict: batch_size")
        model = self._model
        if type(x) is not np.ndarray or not model.built or is_several(model.input_shape):
            x = as_arrays(x, input_ends(model), "x")
        images = self._images(x, "x", "predict")
        outputs: Array = self._steps.unchanged(lambda: self._predict(images, batch_size))
        return outputs

    def _predict(self, images: Arrays, batch_size: int) -> Any:
        model, _, run, gives_several, names = self._compiled()
        count, dtype = count_of(images), self._dtype
        if count <= batch_size:
            if isinstance(images, tuple):
                result = run(*(floats(one, dtype) for one in images))
            else:
                result = run(floats(images, dtype))
            return under(names, list(result) if gives_several else result)
        shapes: Any = model.output_shape if gives_several else (model.output_shape,)
        if any(None in one for one in shapes):  # a size that inputs leave open
            first = run(*(floats(one[:1], dtype) for one in listed(images)))
            shapes = [one.shape[1:] for one in listed(first)]
        outputs = [np.empty((count, *one), dtype) for one in shapes]
        for start in range(0, count, batch_size):
            part = slice(start, start + batch_size)
            results = run(*(floats(one[part], dtype) for one in listed(images)))
            for output, result in zip(outputs, listed(results), strict=True):
                output[part] = result
        return under(names, outputs if gives_several else outputs[0])

    @explained
    def predict_proba(self, x: ArraysLike, *, batch_size: int = 128) -> Array:
        """Return probabilities (n, classes): the softmax of `predict`.

        With a loss of yes and no, as binary_cross_entropy, its sigmoid. Of a model that ends in a
        softmax or sigmoid they are what `predict` returns; sigmoids are probabilities each by
        itself and do not add up to 1.
        """
        if outputs_of(self.model):
            raise ValueError(
                f"predict_proba: expected a model with one output, got one with "
                f"{outputs_of(self.model)}; predict gives them in a list"
            )
        outputs: Any = self.predict(x, batch_size=batch_size)
        (outputs,) = outputs.values() if isinstance(outputs, dict) else (outputs,)
        is_one: bool = ends_in(self.model, "softmax", "sigmoid")
        apply = getattr(self.backend, self.loss.activation or "softmax")
        probabilities: Array = outputs if is_one else apply(outputs)
        return probabilities

    def predictor(self) -> Predictor:
        """Return a snapshot of the model as it is now, made ready to serve on this backend."""
        return self._steps.unchanged(lambda: Predictor(self.model, self.backend, dtype=self.dtype))

    def _compiled(self) -> _Compiled:
        """Return the model in inference; it sees every change of the weights."""
        model, backend, made = self._model, self._backend, self._run
        if made is None or made.model is not model or made.backend is not backend:
            run = compiled(model, backend, follow=True)
            gives_several, names = is_several(model.output_shape), dict_names_of(model)
            made = self._run = _Compiled(model, backend, run, gives_several, names)
        return made
