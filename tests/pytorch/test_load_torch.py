"""Files that PyTorch wrote: every tensor is what PyTorch itself reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastcnn import pytorch

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no outside judge")

FLOAT8 = ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def tensors() -> dict[str, Any]:
    """Tensors of all dtypes, and of every way to lie in a storage."""
    torch.manual_seed(0)
    base = torch.randn(4, 3, 5, 2)
    bytes_ = torch.arange(256, dtype=torch.uint8)
    found = {
        "plain": base,
        "channels last": base.clone().to(memory_format=torch.channels_last),
        "transposed": torch.randn(4, 5).t(),
        "reversed": torch.randn(2, 3, 4, 5).permute(3, 2, 1, 0),
        "part": base[1:, ::2, 1:4],
        "another part": base[2],
        "expanded": torch.ones(3, 1).expand(3, 4),
        "one row of many": torch.as_strided(torch.arange(6.0), (1, 3), (1000, 2)),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "frozen": torch.nn.Parameter(torch.randn(3), requires_grad=False),
        "half": base.half(),
        "half scalar": torch.tensor(1.5).half(),
        "half empty": torch.zeros(2, 0).half(),
        "bfloat16": base.bfloat16().transpose(0, 2),
        "bfloat16 scalar": torch.tensor(1.5).bfloat16(),
        "double": base.double(),
        "bool": base > 0,
        "bool scalar": torch.tensor(True),
        "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
        **{name: torch.tensor([0, 3, 100]).to(getattr(torch, name)) for name in INTEGERS},
    }
    for form in FLOAT8:
        values = bytes_.view(getattr(torch, f"float8_{form}"))
        found[f"float8 {form}"] = values
        found[f"part of float8 {form}"] = values.reshape(16, 16).t()[1:, 3]
    for name in ("attributes", "parameter of attributes"):
        own = base.clone() if name == "attributes" else torch.nn.Parameter(base.clone())
        own.note = 3
        found[name] = own
    return found


def as_numpy(tensor: Any) -> np.ndarray:
    """What load_state promises of a tensor."""
    tensor = tensor.detach()
    name = str(tensor.dtype)
    if "float8" in name or name in ("torch.float16", "torch.bfloat16"):
        tensor = tensor.float()
    return tensor.numpy()


def require_equal(found: dict[str, np.ndarray], state: Any) -> None:
    assert list(found) == list(state)
    for name, tensor in state.items():
        expected = as_numpy(tensor)
        assert found[name].dtype == expected.dtype, name
        assert found[name].flags.carray, name
        np.testing.assert_array_equal(found[name], expected, err_msg=name, strict=True)


FORMS = [
    pytest.param({"_use_new_zipfile_serialization": new, "pickle_protocol": protocol},
                 id=f"{'new' if new else 'old'}-{protocol}")
    for new in (True, False) for protocol in (2, 3, 4, 5)
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    state = tensors()
    torch.save(state, path, **form)
    require_equal(pytorch.load_state(path), state)


def test_a_file_without_checksums(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(before)
    require_equal(pytorch.load_state(tmp_path / "a.pt"), {"a": torch.arange(3)})


@pytest.mark.parametrize("form", FORMS)
def test_tied_weights_are_one_array_and_views_are_not(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    a = torch.randn(4, 3)
    torch.save({"a": a, "b": a, "c": a[1:], "d": a.view(12)}, path, **form)
    found = pytorch.load_state(path)
    assert found["a"] is found["b"]
    for name in "cd":
        assert not np.shares_memory(found["a"], found[name])
    found["c"][:] = 7
    np.testing.assert_array_equal(found["d"], a.view(12).numpy())


@pytest.mark.parametrize("form", FORMS)
def test_a_model(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    model = torch.nn.Sequential(
        torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(3, 2)
    )
    torch.save(model.state_dict(), path, **form)
    require_equal(pytorch.load_state(path), model.state_dict())
    torch.save(model, path, **form)
    with pytest.raises(ValueError, match=r"whole model.*save its state_dict\(\) instead"):
        pytorch.load_state(path)


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint(form: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 5])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    around = {
        "epoch": 3,
        "best": torch.tensor(0.5),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "loss": np.float64(0.1),
        "history": np.arange(3.0),
        "size": torch.Size([1, 2]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "options": {"name": "é" * 200, "betas": (0.9, 0.999), "of": {1, 2}, "at": Path("a")},
    }
    state = model.state_dict()
    torch.save({"state_dict": state, **around}, path, **form)
    require_equal(pytorch.load_state(path), state)
    require_equal(pytorch.load_state(path, key="state_dict"), state)
    with pytest.raises(ValueError, match=r"it holds 'state_dict'.* and no 'statedict'; did you"):
        pytorch.load_state(path, key="statedict")
    with pytest.raises(ValueError, match="'epoch': expected a dict of tensors, got int"):
        pytorch.load_state(path, key="epoch")
    torch.save({"model": state, "ema": state, **around}, path, **form)
    with pytest.raises(ValueError, match=r"2 dicts of tensors.* takes 'model' or 'ema'"):
        pytorch.load_state(path)
    require_equal(pytorch.load_state(path, key="ema"), state)
    torch.save(around, path, **form)
    with pytest.raises(ValueError, match=r"'epoch' \(int\), 'best' \(tensor\).* no dict of ten"):
        pytorch.load_state(path)


def negated() -> Any:
    return torch.zeros(2, dtype=torch.complex64).conj().imag


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: {"a": torch.zeros(2, dtype=torch.complex64)}, "complex64, expected real"),
        (lambda: {"a": negated()}, "to be negated or conjugated"),
        (lambda: {"a": torch.eye(3).to_sparse()}, "_rebuild_sparse_tensor, which is not"),
        (lambda: {"a": torch.empty(3, device="meta")}, "_rebuild_meta_tensor_no_storage"),
        (lambda: torch.zeros(3), "expected a dict, got tensor"),
        (lambda: [torch.zeros(3)], "expected a dict, got list"),
        (lambda: {"a": torch.zeros(3), "b": 4}, "no dict of tensors alone"),
    ],
)
@pytest.mark.parametrize("form", FORMS[::4])
def test_what_is_no_state_of_numbers(value: Any, message: str, form: Any, tmp_path: Path) -> None:
    torch.save(value(), tmp_path / "a.pt", **form)
    with pytest.raises(ValueError, match=message):
        pytorch.load_state(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"got a TorchScript archive.*save its state_dict\(\)"):
        pytorch.load_state(tmp_path / "a.pt")


def test_an_extra_state_and_an_empty_one(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2), "a._extra_state": {"version": 3}}
    torch.save(state, tmp_path / "a.pt")
    assert list(pytorch.load_state(tmp_path / "a.pt")) == ["a.weight"]
    torch.save(torch.nn.ReLU().state_dict(), tmp_path / "a.pt")
    assert pytorch.load_state(tmp_path / "a.pt") == {}


def test_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    unknown = ("fnuz", "e8m0")  # to the version of safetensors that is needed at least
    state = {
        name: tensor.detach().clone().contiguous()
        for name, tensor in tensors().items()
        if not any(each in name for each in unknown)
    }
    save_file(state, tmp_path / "a.safetensors")
    found = pytorch.load_state(tmp_path / "a.safetensors")
    require_equal({name: found[name] for name in state}, state)


def test_a_path_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pytorch.load_state(tmp_path / "none.pt")
    with pytest.raises(TypeError, match="path: expected a file's name, got int"):
        pytorch.load_state(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="load_state: key: expected a string, got int"):
        pytorch.load_state(tmp_path / "none.pt", key=3)  # type: ignore[arg-type]


def test_a_large_file_takes_its_size(tmp_path: Path) -> None:
    """Its storages are not copied, half precision is widened once."""
    import tracemalloc

    for dtype, times in ((torch.float32, 1.0), (torch.float16, 2.5)):
        state = {f"{at}": torch.ones(1 << 20).to(dtype) for at in range(8)}
        torch.save(state, tmp_path / "a.pt")
        tracemalloc.start()
        found = pytorch.load_state(tmp_path / "a.pt")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        require_equal(found, state)
        assert peak < times * (tmp_path / "a.pt").stat().st_size + 1e6
