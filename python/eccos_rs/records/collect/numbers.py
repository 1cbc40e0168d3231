"""Numbers as people and models write them."""

from __future__ import annotations

import re

__all__ = ["numbers_in", "parse_number"]

NUMBER = re.compile(
    r"[-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?"
)
FRACTION = re.compile(r"\\d?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
QUOTIENT = re.compile(r"\(([-+]?[\d.,]+)\)\s*/\s*\(([-+]?[\d.,]+)\)")


def parse_number(text: str) -> float | None:
    """Return the last number in a text: 1,234.5, 3/4, 1e-3, $5, 20 %, a LaTeX fraction; None without one."""
    found = numbers_in(text)
    return found[-1] if found else None


def numbers_in(text: str) -> list[float]:
    """Return all numbers in a text, in their order."""
    plain = text.replace("−", "-").replace("\\!", "").replace("{,}", ",")
    plain = QUOTIENT.sub(r"\1/\2", FRACTION.sub(r"(\1)/(\2)", plain))
    found = []
    for match in NUMBER.finditer(plain):
        top, _, bottom = match.group().replace(",", "").replace(" ", "").partition("/")
        if not bottom:
            found.append(float(top))
        elif float(bottom):
            found.append(float(top) / float(bottom))
    return found
