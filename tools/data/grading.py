"""How answers of the sources are graded: by rules on what stands as the answer."""

from __future__ import annotations

import json
import re
from fractions import Fraction

_ANSWER = re.compile(r'"answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^}\n]+)')
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_FRACTION = re.compile(r"(-?\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)")
_ALONE = re.compile(r"\b[A-J]\b")
_LETTER = (re.compile(r"answer is \(?([A-J])\)?"), re.compile(r"[aA]nswer:\s*\(?([A-J])\)?"))


def stated_answer(text: str) -> str | None:
    """Return what an answer in the form of a JSON object states as its `answer`, else what it boxes."""
    found = _ANSWER.search(text)
    if found is None:
        boxed = _BOXED.findall(text)
        return boxed[-1] if boxed else None
    raw = found[1].strip().rstrip(",")
    if not raw.startswith('"'):
        return raw
    try:
        return str(json.loads(raw, strict=False))
    except ValueError:
        return raw[1:-1]


def same_number(answer: str | None, truth: str) -> bool:
    """Compare the first numbers, fractions worked out."""
    if answer is None:
        return False
    got, wanted = _first_number(answer), _first_number(truth.replace("#", ""))
    return got is not None and got == wanted


def _first_number(text: str) -> Fraction | None:
    text = text.replace(",", "").replace("$", "").strip()
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None and Fraction(fraction[2]):
        return Fraction(fraction[1]) / Fraction(fraction[2])
    found = _NUMBER.search(text)
    return None if found is None else Fraction(found[0])


def same_literal(answer: str | None, truth: str) -> bool:
    """Compare Python literals as they are written; a text counts in either quotes, or without them."""
    return answer is not None and answer.strip("'\"") == truth.strip("'\"")


def chosen_letter(stated: str | None, text: str) -> str | None:
    """Return the option that was chosen: as the source reads it, as the text says it, its last letter."""
    if stated:
        return stated
    for pattern in _LETTER:
        found = pattern.search(text)
        if found is not None:
            return found[1]
    alone = _ALONE.findall(text)
    return alone[-1] if alone else None
