"""The state dict in what a file holds: that itself, or a dict in a checkpoint."""

from __future__ import annotations

from itertools import islice
from typing import Any

from fastcnn._sentences import did_you_mean
from fastcnn.pytorch._tensors import Tensor

__all__ = ["state_in"]

_EXTRA = "_extra_state"  # what modules add to a state dict that is no tensor


def state_in(value: Any, key: str | None) -> dict[str, Tensor]:
    """Return the tensors of the state dict in a file; ValueError where none or several could be it.

    key: in which item of the dict it is.
    """
    if not isinstance(value, dict):
        raise ValueError(f"expected a dict, got {_kind(value)}; save model.state_dict()")
    if key is not None:
        if key not in value:
            hint = did_you_mean(key, [each for each in value if isinstance(each, str)])
            raise ValueError(f"it holds {_listed(value)}, and no {key!r:.80}{hint}")
        if not _is_state(value[key]):
            raise ValueError(f"{key!r:.80}: expected a dict of tensors, got {_kind(value[key])}")
        return _tensors(value[key])
    if not value or _is_state(value):
        return _tensors(value)
    found = [name for name, each in value.items() if isinstance(name, str) and _is_state(each)]
    if len(found) == 1:
        return _tensors(value[found[0]])
    if found:
        choices = " or ".join(f"{name!r:.80}" for name in found[:5])
        raise ValueError(
            f"it holds {len(found)} dicts of tensors; load_state(path, key=...) takes {choices}"
        )
    raise ValueError(f"it holds {_listed(value)}, and no dict of tensors alone")


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(_tensors(value))
        and all(
            isinstance(name, str) and (isinstance(each, Tensor) or name.endswith(_EXTRA))
            for name, each in value.items()
        )
    )


def _tensors(value: dict[str, Any]) -> dict[str, Tensor]:
    return {name: each for name, each in value.items() if isinstance(each, Tensor)}


def _listed(value: dict[Any, Any]) -> str:
    """Return what is in a dict, in words; not what is nested in it, which can be endless."""
    names = [
        f"{name!r:.40} ({_kind(each)})" if isinstance(name, (str, int)) else _kind(name)
        for name, each in islice(value.items(), 5)
    ]
    return ", ".join(names) + (", ..." if len(value) > 5 else "")


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return "tensor"
    if isinstance(value, (dict, list, tuple, str, int, float, bool, type(None))):
        return type(value).__name__
    return "object"
