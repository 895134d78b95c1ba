"""The networks: what is compared is the same, and what shall differ does."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest

from benchmarks import _competitor, _networks
from benchmarks._agreement import disagreement
from benchmarks._cases import Training
from benchmarks._networks import NETWORKS, OTHER_ACTIVATIONS
from benchmarks._peers import PEERS, Job, Results
from fastcnn import Predictor
from fastcnn.backend import Array


def _losses(peer: str, network: str) -> Results:
    if _competitor.missing(peer):
        pytest.skip(f"{peer} is not installed")
    module = import_module(PEERS[peer].module)
    module.start(1)
    case = Training(2, network)
    job: Job = module.training(case, next(iter(module.options(case.kind))))
    return job.result()


@pytest.mark.parametrize("network", ["resnet20", "unet", "unet-upsampled"])
def test_twins_train_alike(network: str) -> None:
    expected = _losses("fastcnn", network)
    assert expected["losses"][0] != expected["losses"][1]  # a step has changed something
    assert disagreement(_losses("torch", network), expected) is None


def _logits(network: str) -> Array:
    x = np.random.default_rng(0).random((2, *NETWORKS[network].input_shape), np.float32)
    return Predictor(_networks.model(network))(x)


@pytest.mark.parametrize("activation", OTHER_ACTIVATIONS)
def test_an_activation_is_the_same_as_argument_and_as_layers(activation: str) -> None:
    found = _logits(f"sample-{activation}")
    np.testing.assert_array_equal(found, _logits(f"sample-{activation}-layers"))
    assert disagreement({"logits": _logits("sample")}, {"logits": found})


def test_dropout_makes_another_training_and_the_same_inference() -> None:
    np.testing.assert_array_equal(_logits("resnet20-dropout"), _logits("resnet20"))
    assert disagreement(_losses("fastcnn", "resnet20-dropout"), _losses("fastcnn", "resnet20"))
