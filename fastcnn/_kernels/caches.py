"""How large this machine's caches are, for the kernels that cut their work to fit them."""

from __future__ import annotations

from pathlib import Path

__all__ = ["cache_bytes"]

# Bytes of L1, L2 and L3: what is taken where a size is not known, and the least and the most
# that is believed. Virtual machines report odd ones.
_USUAL = (32 << 10, 1 << 20, 32 << 20)
_LEAST = (16 << 10, 128 << 10, 1 << 20)
_MOST = (256 << 10, 16 << 20, 1 << 30)
# Bytes of L3 that one CPU can have to itself, at most. A virtual machine of two CPUs is told of the
# whole L3 of its host, 300 MB, which it shares with dozens that it does not see.
_L3_OF_ONE = 8 << 20


def cache_bytes(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> tuple[int, int, int]:
    """Return the bytes of L1 data cache and L2 that one CPU has, and those of L3.

    L1 and L2 are divided by the CPUs that share them, such as two threads of a core. Of L3 no more
    is believed than the CPUs that share it can have each to itself. A machine without L3 has as
    much as its L2. As Linux describes them; elsewhere those of a common core.
    """
    found: dict[int, int] = {}
    for index in sorted(folder.glob("index[0-9]*")):
        try:
            if (index / "type").read_text().strip() == "Instruction":
                continue
            level = int((index / "level").read_text())
            size, sharers = _number(index / "size"), _count(index / "shared_cpu_list")
        except (OSError, ValueError):  # not described here, or in another form
            continue
        found[level] = size // sharers if level < 3 else min(size, sharers * _L3_OF_ONE)
    if 2 in found:
        found.setdefault(3, found[2])
    sizes = (found.get(level, usual) for level, usual in enumerate(_USUAL, start=1))
    l1, l2, l3 = (
        min(max(size, least), most) for size, least, most in zip(sizes, _LEAST, _MOST, strict=True)
    )
    return l1, l2, l3


def _number(file: Path) -> int:
    """Return the bytes that a text such as 32K or 4M means."""
    text = file.read_text().strip()
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG")) * factor


def _count(file: Path) -> int:
    """Return how many CPUs a list such as 0-3,8 names."""
    ranges = [part.split("-") for part in file.read_text().strip().split(",")]
    return sum(int(ends[-1]) - int(ends[0]) + 1 for ends in ranges)
