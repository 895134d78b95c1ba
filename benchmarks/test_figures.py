"""The benchmarks' own arithmetic: a figure is worth what it is made with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _competitor, _limits, _networks, _records, _timing, page, paths, peers
from benchmarks._agreement import TOLERANCE, disagreement
from benchmarks._cases import (
    FMA_PEAK,
    MEMORY_BOUND,
    Case,
    Convolution,
    Cost,
    Inference,
    MemoryBound,
    Training,
)
from benchmarks._networks import NETWORKS, OTHER_ACTIVATIONS
from benchmarks._peers import PEERS
from benchmarks._peers.layout import nchw, nhwc, oihw, to_hwio
from benchmarks._records import Run
from benchmarks._report import Measured, headlines, lines, means, tables
from benchmarks._tables import TABLES, t1_table
from fastcnn import _kernels

SHAPE = Convolution(channels=4, filters=6, size=9, kernel=3, padding=1, stride=2, batch=2)


def test_every_round_has_every_competitor_and_another_one_first() -> None:
    called: list[str] = []

    def turn(name: str) -> float:
        called.append(name)
        return len(called)

    taken = _timing.race({name: partial(turn, name) for name in "abc"}, 3)
    assert "".join(called) == "abcbcacab"
    assert taken == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_ratios_are_taken_within_a_round() -> None:
    assert _timing.ratio([1, 10, 2], [2, 20, 6]) == (2, 2, 3)


def test_calls_fill_the_time() -> None:
    assert _timing.calls_for(lambda: None, 0.0) == 1
    assert _timing.calls_for(lambda: None, 0.01) > 100


@pytest.mark.parametrize(
    ("actual", "sentence"),
    [
        (np.ones((2, 3)), None),
        (np.ones((2, 3)) + TOLERANCE / 2, None),
        (np.ones((2, 3)) + TOLERANCE * 2, "an error of at most"),
        (np.full((2, 3), np.nan), "an error of at most"),
        (np.ones((3, 2)), r"expected shape \(2, 3\)"),
    ],
)
def test_disagreement(actual: np.ndarray, sentence: str | None) -> None:
    found = disagreement({"y": actual}, {"y": np.ones((2, 3))})
    if sentence is None:
        assert found is None
    else:
        with pytest.raises(ValueError, match=sentence):
            raise ValueError(found)


def test_missing_result_is_a_disagreement() -> None:
    assert disagreement({}, {"y": np.ones(2)}) is not None


@pytest.mark.parametrize("case", [SHAPE, replace(SHAPE, groups=2), replace(SHAPE, kernel=5)])
def test_operations_of_a_convolution(case: Convolution) -> None:
    """Both counts, by walking over every output and tap."""
    every = inside = 0
    starts = [p * case.stride - case.padding for p in range(case.output)]
    for top in starts:
        for left in starts:
            for h in range(top, top + case.kernel):
                for w in range(left, left + case.kernel):
                    every += 1
                    inside += 0 <= h < case.size and 0 <= w < case.size
    each = 2 * case.batch * case.channels // case.groups * case.filters
    assert case.work == every * each
    assert case.least_work == inside * each
    assert replace(case, direction="input gradient").work == case.work


def test_operations_of_the_sample_network() -> None:
    """By its own weights: each of a convolution's is used once at every output pixel."""
    weights = _networks.weights("sample")
    pixels = {"0.weight": 26 * 26, "2.weight": 11 * 11, "5.weight": 1, "6.weight": 1}
    operations = [2 * weights[name].size * pixels[name] for name in pixels]
    case = Training(128)
    assert case.work == case.images * (3 * sum(operations) - operations[0])
    assert Inference(128).work == 128 * sum(operations)
    assert case.images % case.batch == 0


# Parameters, and thousands of multiplications of an image, as the papers or PyTorch's own
# networks have them.
KNOWN = {
    "sample": (225_034, None),
    "sample-bn": (225_034 + 96, None),
    "lenet5": (61_706, None),
    "resnet20": (272_474, 41_000),
    "resnet18": (11_689_512, 1_814_000),
    "mobilenetv2": (3_504_872, 301_000),
    "unet": (1_942_577, 758_000),  # of no paper: by its channels and sizes, counted by hand
    "unet-upsampled": (1_964_097, 876_000),
    "resnet20-dropout": (272_474, 41_000),
}
for each in OTHER_ACTIVATIONS:
    KNOWN[f"sample-{each}"] = KNOWN[f"sample-{each}-layers"] = KNOWN["sample"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_those_of_their_names(name: str) -> None:
    parameters, thousands = KNOWN[name]
    assert _networks.model(name).parameter_count == parameters
    if thousands is not None:
        assert _networks.flops(name)[0] / 2000 == pytest.approx(thousands, rel=0.01)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_names_differ(table: Callable[[Sequence[int]], list[Case]]) -> None:
    cases = table(())
    assert len({(case.title, case.kind) for case in cases}) == len(cases)


@pytest.mark.parametrize("op", MEMORY_BOUND)
@pytest.mark.parametrize("megabytes", [4, 64])
def test_tensors_are_about_as_large_as_said(op: str, megabytes: int) -> None:
    case = MemoryBound(op, megabytes)
    largest = 4 * np.prod(case.shape)
    assert largest == pytest.approx(megabytes * 2**20, rel=0.06)
    assert case.figure(1.0) * 1e9 == pytest.approx(case.work)
    assert case.work >= largest


def test_a_copy_touches_the_bytes_that_the_op_must() -> None:
    case = MemoryBound("ReLU backward", 4)  # three tensors of 5 x 56 x 56 x 64
    assert case.work == 3 * 4 * 5 * 56 * 56 * 64
    assert case.limit == "copy of 6 MB"  # which reads 6 and writes 6


def test_t1_is_twenty_shapes_of_three_passes() -> None:
    cases = [case for case in t1_table() if isinstance(case, Convolution)]
    assert len(cases) == 60
    assert all(case.output == -(-case.size // case.stride) for case in cases)


def test_layouts_come_back() -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    np.testing.assert_array_equal(nhwc(nchw(array)), array)
    np.testing.assert_array_equal(to_hwio(oihw(array)), array)
    assert nchw(array)[1, 4, 2, 3] == array[1, 2, 3, 4]
    assert oihw(array)[4, 3, 1, 2] == array[1, 2, 3, 4]


def _measured(direction: str, own: float, peer: float) -> Measured:
    seconds = {("fastcnn", "isa"): [own] * 3, ("torch", "nchw"): [peer] * 3}
    return Measured(replace(SHAPE, direction=direction), seconds)


def test_percents_ratios_and_the_best_option() -> None:
    measured = _measured("forward", 2, 3)
    measured.seconds["torch", "channels_last"] = [8, 4, 1]
    peak = {FMA_PEAK: [0, SHAPE.work]}  # a second: one call takes at least a second
    assert measured.best("torch") == "nchw"
    assert measured.fraction("fastcnn", "isa", peak) == 0.5
    assert measured.ratio("torch", "channels_last") == (2, 0.5, 4)
    assert "50.0% of peak" in lines(measured, peak)
    assert "| 50% |" in tables([measured], ["fastcnn", "torch"], peak)
    assert "(1.50 x)" in tables([measured], ["fastcnn", "torch"], peak)


def test_means_are_geometric_and_name_the_least() -> None:
    results = [_measured("forward", 1, 2), _measured("weight gradient", 2, 1)]
    text = means(results, "torch")
    assert "all: geometric mean of 2 ratios 1.00 x, the least 0.50 x" in text[0]
    assert "weight gradient" in text[0]
    assert means(results, "fastcnn") == []


def test_a_kernel_beyond_the_peak_is_suspicious() -> None:
    measured = _measured("forward", 1, 1)
    useful = SHAPE.least_work
    assert measured.suspicion({FMA_PEAK: [useful / 1.04]}) is None
    assert "measured wrongly" in str(measured.suspicion({FMA_PEAK: [useful / 1.06]}))


def test_a_copy_is_held_against_its_own_round() -> None:
    case = MemoryBound("ReLU forward", 4)
    copies = [case.work, case.work / 2, case.work / 9]  # a second
    measured = Measured(case, {("fastcnn", "isa"): [4.0, 4.0, 4.5]}, copies)
    assert measured.fraction("fastcnn", "isa", {}) == 0.5
    assert "0.50 of a copy" in headlines([measured], {})[0]


def test_of_a_cost_less_is_better() -> None:
    case = Cost("page faults", 128)
    measured = Measured(case, {("fastcnn", "isa"): [3.0, 1.0, 2.0], ("torch", "nchw"): [8.0] * 3})
    assert "fastcnn 2 a step, torch 8 (0.25 x)" in headlines([measured], {})[0]
    assert "| page faults, training at batch 128, a step | 2 | 8 (4.00 x) |" in tables(
        [measured], ["fastcnn", "torch"], {}
    )
    none = Measured(case, {**measured.seconds, ("fastcnn", "isa"): [0.0] * 3})
    assert none.ratio("torch", "nchw") is None
    assert "fastcnn 0 a step, torch 8 (0.00 x)" in headlines([none], {})[0]


@pytest.mark.parametrize("table", TABLES)
def test_a_run_comes_back_from_its_file(table: str, tmp_path: Path) -> None:
    seconds = {("fastcnn", "isa"): [1.0, 2.0], ("torch", "nchw"): [3.0, 4.0]}
    results = {table: [Measured(case, seconds, [1.0, 2.0]) for case in TABLES[table](())]}
    run = Run(
        "command", "machine", "today", {"fastcnn": "fastcnn 1"}, [], {FMA_PEAK: [1e9]}, results
    )
    _records.write(tmp_path / "run.json", run)
    assert _records.read(tmp_path / "run.json") == run
    assert all(
        measured.case.title in page.section(table, [run], False) for measured in results[table]
    )


@pytest.mark.parametrize("isa", _kernels.available())
def test_limits_are_of_this_world(isa: str) -> None:
    """A CPU of today does 1e9 to 1e12 operations a second and core, and copies 1e8 to 1e12 bytes.

    The peak of a wider instruction set is no lower: a chain that the compiler merged or a burst
    too short to count would show here.
    """
    flop = _limits.seconds_per_flop(isa, 1)
    assert 1e-12 < flop < 1e-9
    assert 1e-12 < _limits.seconds_per_byte(isa, 1, 1 << 22, 0.01) < 1e-8
    assert flop < 1.5 * _limits.seconds_per_flop(_kernels.available()[0], 1)


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        (peers.main, ["--rounds", "0"], "expected a number from 1, got '0'"),
        (peers.main, ["--seconds", "nan"], "expected a number above 0, got 'nan'"),
        (peers.main, ["--peers", "tensrflow"], "got 'tensrflow'"),
        (peers.main, ["--only", "t3", "--match", "Relu"], "expected words of a case's title"),
        (peers.main, ["--without", "compiled", "compield"], "nchw, channels_last, compiled, jit"),
        (peers.main, ["--without", "compiled", "compield"], "got 'compield'"),
        (peers.main, ["--json", "/dev/null/figures.json"], "expected a file that can be written"),
        (peers.main, ["--json", "/"], "expected a file that can be written, got '/'"),
        (paths.main, ["--batch", "0"], "expected a number from 1, got '0'"),
        (paths.main, ["--rounds", "-1"], "expected a number from 1, got '-1'"),
        (paths.main, ["--alive", "2"], "expected a number from 0 to 1, got '2'"),
    ],
)
def test_a_mistyped_option_is_named_before_anything_is_timed(
    command: Callable[[Sequence[str]], int],
    arguments: Sequence[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        command(arguments)
    assert sentence in f"{caught.value} {capsys.readouterr().err}"


@pytest.mark.parametrize("name", PEERS)
def test_the_options_of_a_peer_are_known_by_name(name: str) -> None:
    """So that a mistyped one is told from one that another case or machine has."""
    if _competitor.missing(name):
        pytest.skip(f"{name} is not installed")
    with _competitor.Competitor(name, 1) as competitor:
        found = {option for kind in _records.KINDS for option in competitor.options(kind)}
    assert found <= {*PEERS[name].options, *_kernels.available()}


def test_the_page_measures_each_file_by_its_own_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr(peers, "main", given.append)
    (tmp_path / "benchmarks.md").write_text("<!-- table t4 -->\n<!-- end -->\n")
    words = ["--only", "t4", "--match", "sample network with"]
    for name in ("t4-a.json", "t4-b.json"):
        run = Run(shlex.join([*peers.COMMAND, *words]), "machine", "today", {}, [])
        _records.write(tmp_path / "figures" / name, run)
    assert page.main(["--docs", str(tmp_path), "--no-plots", "--again"]) == 0
    files = [str(tmp_path / "figures" / name) for name in ("t4-a.json", "t4-b.json")]
    assert given == [[*words, "--json", file] for file in files]
    given.clear()
    assert page.main(["--docs", str(tmp_path), "--no-plots"]) == 0
    assert given == []


def test_the_command_of_a_run_does_not_say_where_its_figures_go() -> None:
    for arguments in (["--json", "a", "--only", "t3"], ["--only", "t3", "--json=a"]):
        assert peers._measured(arguments) == ["--only", "t3"]
    for path in page.DOCS.glob("figures/*.json"):
        assert "--json" not in _records.read(path).command
