"""Parts of a graph's description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["headless", "last_ops", "needed"]

_KEEPING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout")
_BEHIND = ("Add", "Softmax", "LogSoftmax", "Sigmoid", "Identity", "Reshape", "Flatten", "Squeeze")


def needed(nodes: Iterable[Mapping[str, Any]], outputs: Iterable[str]) -> list[Any]:
    """Return the nodes on which an output depends."""
    wanted, kept = set(outputs), []
    for node in reversed(list(nodes)):
        if not wanted.isdisjoint(node["outputs"]):
            kept.append(node)
            wanted.update(node["inputs"])
    return kept[::-1]


def last_ops(graph: Mapping[str, Any]) -> list[str]:
    """Return the operator that makes each output's numbers, "" where there is none."""
    makers = {output: node for node in graph["nodes"] for output in node["outputs"]}
    found = []
    for output in graph["outputs"]:
        node = makers.get(output["name"])
        while node is not None and node["op"] in _KEEPING:
            node = makers.get(node["inputs"][0])
        found.append("" if node is None else node["op"])
    return found


def headless(graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of what lies in front of a graph's last dense layer."""
    name, weights = graph["outputs"][0]["name"], graph["weights"]
    makers = {output: node for node in graph["nodes"] for output in node["outputs"]}
    while len(graph["outputs"]) == 1:
        node = makers.get(name)
        if node is None:
            break
        given = [each for each in node["inputs"] if each not in weights]
        if node["op"] in ("Gemm", "MatMul") and len(given) < len(node["inputs"]):
            return _ending_in(graph, node["inputs"][0])
        if node["op"] not in _BEHIND:
            break
        name = next((each for each in given if each in makers), "")
    raise ValueError("without_head: expected one output of a dense layer, got another network")


def _ending_in(graph: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the description of what an array of the graph depends on."""
    nodes = needed(graph["nodes"], [name])
    read = {each for node in nodes for each in node["inputs"]}
    weights = {key: value for key, value in graph["weights"].items() if key in read}
    held = {value["layer"] for value in weights.values()}
    held |= {node["layer"] for node in nodes if "layer" in node}
    return {
        **graph,
        "outputs": [{"name": name, "last": False}],
        "nodes": nodes,
        "weights": weights,
        "layers": {key: value for key, value in graph["layers"].items() if key in held},
        "constants": {key: value for key, value in graph["constants"].items() if key in read},
    }
