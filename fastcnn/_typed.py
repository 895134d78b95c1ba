"""What is typed at the command, as numbers: types of argparse, whose errors are sentences."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

__all__ = ["integer_in", "numbers", "rate"]


def integer_in(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a type of integers from `least` to `most`, or without an end."""
    accepted = f"of {least} or more" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"expected an integer {accepted}, got {text[:40]!r}")
        return value

    return parse


def rate(text: str) -> float:
    """Return a learning rate."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text[:40]!r}")
    return value


def numbers(text: str) -> list[float]:
    """Return numbers with commas between them."""
    try:
        return [float(each) for each in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between them, such as 0.485,0.456,0.406, got "
            f"{text[:40]!r}"
        ) from None
