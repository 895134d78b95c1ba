"""The package onnx's own cases of single operators; tests/onnx_nodes.py prints them."""

from __future__ import annotations

import onnx_nodes
import pytest


def test_they_are_as_the_package_says_but_for_those_with_a_reason() -> None:
    count, found = onnx_nodes.run()
    if count < 300:
        pytest.skip("another version of onnx, with other cases")
    assert {name: said for name, said in found.items() if name not in onnx_nodes.UNLIKE} == {}
    assert onnx_nodes.UNLIKE.keys() - found.keys() == set()
