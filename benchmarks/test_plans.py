"""The benchmark of plans: it measures what it says, and refuses to time what is wrong."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from benchmarks import _costs, _processes, plans
from benchmarks._cases import Cost
from benchmarks._peers import Job, fast
from benchmarks._processes import Choice
from fastcnn import empty_cache

ROOT = Path(__file__).parents[1]
QUICK = ["--rounds", "1", "--seconds", "1e-9"]


@pytest.mark.parametrize("part", ["planning", "dropout", "activations"])
def test_a_part_checks_and_prints(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plans, "PLANNED", 2)
    monkeypatch.setattr(plans, "TRAINED", (2, 4))
    assert plans.main(["--only", part, "--cpu", *QUICK]) == 0
    lines = [
        line for line in capsys.readouterr().out.splitlines() if ", aim" in line or "0.97" in line
    ]
    assert len(lines) == {"planning": 2, "dropout": 2}.get(part, 2 * len(plans.OTHER_ACTIVATIONS))
    assert all((" ms " if part == "planning" else " x (") in line for line in lines)


def test_activations_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    inference = fast.inference
    wrong = {"sample-silu": "sample-gelu", "sample-silu-layers": "sample-silu-layers"}

    def planted(case: plans.Inference, option: str) -> Job:
        return inference(plans.Inference(case.batch, wrong.get(case.network, case.network)), option)

    monkeypatch.setattr(fast, "inference", planted)
    with pytest.raises(SystemExit, match="sample-silu: expected the bits of sample-silu-layers"):
        plans.main(["--only", "activations", *QUICK])
    wrong["sample-silu-layers"] = "sample-gelu-layers"
    with pytest.raises(SystemExit, match="sample-silu disagrees"):
        plans.main(["--only", "activations", *QUICK])


def test_stages_are_given_what_the_one_before_gave() -> None:
    clock = iter([0.0, 1.0, 3.0, 10.0, 10.5, 13.5]).__next__  # seconds: 1 and 2, 0.5 and 3
    stages = {"a": lambda value: [value], "b": lambda value: [value, 2]}
    assert plans._least(clock, stages, 2) == ([[None], 2], "3000.0 ms", "a 500.0, b 2000.0")


def test_faults_and_memory_are_counted() -> None:
    fast.start(1)
    assert 0 <= _costs.step_faults("sample", 2, 1) < 1e3
    assert 0 <= _costs.prediction_faults("sample", 2, 1) < 1e3
    empty_cache()  # of what tests before have left to the pool
    measured = _costs.measure(fast, Cost("peak memory", 16, "resnet20"), "")
    whole = _costs.measure(fast, Cost("peak memory of the process", 16, "resnet20"), "")
    assert measured is not None
    assert whole is not None
    assert list(measured[0]) == ["losses"]
    assert 1 << 20 < measured[1] < whole[1] < 1 << 32


def test_what_a_peer_does_not_train_has_no_cost() -> None:
    pytest.importorskip("torch")
    from benchmarks._peers import pytorch

    assert _costs.measure(pytorch, Cost("peak memory", 2, "resnet20"), "compiled") is None


race = partial(_processes.race, task="fit", batch=64, rounds=2, seconds=0.01)


def test_another_build_is_timed_from_its_folder(tmp_path: Path) -> None:
    rates = race({"own": Choice(), "clone": Choice(folder=str(ROOT))}, processes=2)
    assert [len(taken) for taken in rates.values()] == [2, 2]
    assert all(rate > 0 for taken in rates.values() for rate in taken)
    (tmp_path / "fastcnn").mkdir()
    (tmp_path / "fastcnn" / "__init__.py").write_text("raise SystemExit(3)\n")
    with pytest.raises(SystemExit, match="ended by itself, with 3"):
        race({"own": Choice(), "other": Choice(folder=str(tmp_path))})


def test_builds_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_processes, "CHILD", "import sys; print([float(sys.argv[4])])")
    with pytest.raises(SystemExit, match="fit, batch 64: two disagrees"):
        race({"one": Choice(threads=1), "two": Choice(threads=2)})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "base"], "--only base: expected --base FOLDER with it"),
        (["--base", "nowhere"], "expected a folder with fastcnn in it, got 'nowhere'"),
        (["--cpu", "--threads", "2"], "not allowed with argument --cpu"),
    ],
)
def test_a_mistyped_option_is_named(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        plans.main(arguments)
    assert sentence in capsys.readouterr().err
