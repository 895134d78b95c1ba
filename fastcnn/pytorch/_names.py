"""What the pickles of PyTorch's files may name, and what comes of it: tensors, sizes and dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastcnn.pytorch._opcodes import READ_OVER, SAVE_THE_STATE, Function, Machine
from fastcnn.pytorch._tensors import MOST_AXES, STORED, Storage, Tensor, count, require_inside

__all__ = ["NAMES", "storage_of"]

_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QUInt8": "quint8",
    "QInt8": "qint8",
    "QInt32": "qint32",
}
_REFUSED = ("complex32", "complex64", "complex128", "quint8", "qint8", "qint32")
_OTHER = "its pickle speaks of data in a way that torch.save does not"


class Dtype(NamedTuple):
    """A dtype, or the kind of a storage, "bytes" where it has none."""

    name: str


def storage_of(said: Any) -> Storage:
    """Return the storage that a pickle means by a persistent identifier."""
    if not isinstance(said, tuple) or not said:
        raise ValueError(_OTHER)
    if said[0] == "module":
        raise ValueError(f"it holds a whole model with its source code; {SAVE_THE_STATE}")
    _, kind, key, _, size, *view = said if len(said) in (5, 6) else (None,) * 5
    if said[0] != "storage" or not isinstance(kind, Dtype) or not isinstance(key, (str, int)):
        raise ValueError(_OTHER)
    if kind.name in _REFUSED:
        raise ValueError(f"it holds a tensor of {kind.name}, expected real numbers")
    whole = count(size, "a storage's size")
    start, many = 0, whole
    if view and view[0] is not None:  # of the form of before PyTorch 1.6
        if not isinstance(view[0], tuple) or len(view[0]) != 3:
            raise ValueError(_OTHER)
        start, many = (count(each, "a storage's view") for each in view[0][1:])
        if start + many > whole:
            raise ValueError(f"it holds a view of {start + many} numbers of a storage of {whole}")
    return Storage(str(key), kind.name, start, many, whole)


def _rebuild_tensor(machine: Machine, given: tuple[Any, ...]) -> Tensor:
    """Of (storage, offset, shape, strides)."""
    return _tensor(machine, *given[:4])


def _rebuild_tensor_v2(machine: Machine, given: tuple[Any, ...]) -> Tensor:
    """Of these and (whether it has a gradient, hooks), perhaps what else is to know of it."""
    _require_plain(given[6:])
    return _tensor(machine, *given[:4])


def _rebuild_tensor_v3(machine: Machine, given: tuple[Any, ...]) -> Tensor:
    """Of these with the dtype behind them: of a storage of bytes."""
    _require_plain(given[7:])
    if not isinstance(given[6], Dtype):
        raise TypeError
    storage, offset, shape, strides, _, _, dtype, *_ = given
    return _tensor(machine, storage, offset, shape, strides, dtype.name)


def _require_plain(more: tuple[Any, ...]) -> None:
    """Refuse tensors whose numbers are the negatives of those that are stored."""
    for each in more:
        if isinstance(each, dict) and any(each.values()):
            raise ValueError(
                "it holds a tensor that is to be negated or conjugated when it is read; save its "
                "resolve_neg().resolve_conj()"
            )


def _tensor(
    machine: Machine, storage: Any, offset: Any, shape: Any, strides: Any, dtype: str = ""
) -> Tensor:
    if not isinstance(storage, Storage):
        raise TypeError
    dtype = dtype or storage.dtype
    if dtype not in STORED:
        raise ValueError(f"it holds a tensor of {dtype}, expected one of {', '.join(STORED)}")
    for sizes in (shape, strides):
        if type(sizes) is not tuple or len(sizes) != len(shape) or len(sizes) > MOST_AXES:
            raise ValueError(f"it holds a tensor without a shape, or of more than {MOST_AXES} axes")
        for each in sizes:
            count(each, "a tensor's shape and strides")
    machine.charge(64 * len(shape))
    found = Tensor(storage, dtype, count(offset, "a tensor's offset"), shape, strides)
    return require_inside(found)


def _first(machine: Machine, given: tuple[Any, ...]) -> Any:
    """Of a parameter: its tensor is the first argument; of a size: its numbers."""
    return given[0]


def _rebuild_from_type(machine: Machine, given: tuple[Any, ...]) -> Any:
    """Of (function, class, its arguments, attributes): a tensor with attributes."""
    function, _, arguments, _ = given
    if not isinstance(function, Function) or function.of is _rebuild_from_type:
        raise TypeError
    return function.call(machine, arguments)


def _ordered_dict(machine: Machine, given: tuple[Any, ...]) -> dict[Any, Any]:
    """Of nothing, or of a list of pairs, as Python 2 wrote it."""
    made: dict[Any, Any] = {}
    if given:
        (pairs,) = given
        if type(pairs) is not list or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
            raise TypeError
        machine.fill(made, pairs, len(pairs))
    return made


# What a pickle may name. Of what no tensor is, numbers of NumPy among them, nothing is kept.
NAMES: Mapping[str, Any] = {
    "collections.OrderedDict": Function(_ordered_dict, 0, 1),
    "torch._utils._rebuild_tensor": Function(_rebuild_tensor, 4, 4),
    "torch._utils._rebuild_tensor_v2": Function(_rebuild_tensor_v2, 6, 7),
    "torch._utils._rebuild_tensor_v3": Function(_rebuild_tensor_v3, 7, 8),
    "torch._utils._rebuild_parameter": Function(_first, 3, 3),
    "torch._utils._rebuild_parameter_with_state": Function(_first, 4, 4),
    "torch._tensor._rebuild_from_type_v2": Function(_rebuild_from_type, 4, 4),
    "torch._tensor._rebuild_from_type": Function(_rebuild_from_type, 4, 4),
    "torch.Size": Function(_first, 1, 1),
    **{f"torch.{name}": Dtype(name) for name in (*STORED, *_REFUSED)},
    **{
        f"{module}.{kind}Storage": Dtype(name)
        for module in ("torch", "torch.cuda")
        for kind, name in {
            **_STORAGES,
            "ComplexFloat": "complex64",
            "ComplexDouble": "complex128",
            "QUInt8": "quint8",
            "QInt8": "qint8",
            "QInt32": "qint32",
        }.items()
    },
    "torch.storage.UntypedStorage": Dtype("bytes"),
    **dict.fromkeys(
        (
            "torch.device",
            "torch.Tensor",
            "torch.nn.parameter.Parameter",
            "argparse.Namespace",
            "collections.Counter",
            "collections.defaultdict",
            *(
                f"{module}.{name}"
                for module in ("builtins", "__builtin__")
                for name in ("dict", "float", "int", "list", "set", "slice")
            ),
            "pathlib.PosixPath",
            "pathlib.WindowsPath",
            "_codecs.encode",
            "numpy.dtype",
            "numpy.ndarray",
            *(
                f"numpy.{core}.{name}"
                for core in ("core", "_core")
                for name in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")
            ),
        ),
        READ_OVER,
    ),
}
