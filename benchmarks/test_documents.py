"""The documents: every command of the benchmarks that they name is one."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import contention, fusions, page, paths, peers, plans

ROOT = Path(__file__).parents[1]
MODULES = (peers, plans, paths, fusions, contention, page)
PARSERS = {module.__name__.split(".")[-1]: module._parser for module in MODULES}
TEXTS = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
TEXTS["docs/kernels.md"] = (page.DOCS / "kernels.md").read_text()
TEXTS["docs/benchmarks.md"] = (page.DOCS / "benchmarks.md").read_text()
TEXTS |= {module.__name__: str(module.__doc__) for module in MODULES}


@pytest.mark.parametrize("name", TEXTS)
def test_commands_are_known(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spans = re.findall(r"`python -m benchmarks\.([^`]+)`", TEXTS[name])
    lines = re.findall(r"^ *python -m benchmarks\.(\S+(?: [^\s#]+)*)", TEXTS[name], re.MULTILINE)
    assert spans + lines
    for command in spans + lines:
        module, *arguments = shlex.split(command)
        PARSERS[module]().parse_args(arguments)
