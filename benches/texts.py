"""Queries of our own for the benches: short, mixed and long ones, and ones of a wanted number of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["KINDS", "LENGTHS", "texts", "texts_of_length"]

OPENINGS = [
    "Explain in plain words why",
    "Write a short function that checks whether",
    "Compute the total cost when",
    "Which of these statements is true if",
    "Prove or disprove that",
    "Summarise the argument that",
    "How many ways are there such that",
    "Translate into formal logic the claim that",
    "Give two examples where",
    "Estimate to one significant figure how long it takes until",
]
THINGS = [
    "a bakery sells 24 loaves at 3.50 dollars and discounts the rest by a quarter",
    "the sequence a_n = 3n^2 - 5 is even",
    "a court weighs a contract signed under pressure",
    "an enzyme loses half its activity at 41 degrees",
    "two trains leave stations 180 km apart at 60 and 75 km/h",
    "the matrix [[2, 1], [1, 3]] is positive definite",
    "prices rise by 2 percent a month for a year",
    "a hash table with open addressing is 80 % full",
    "the parliament dissolves itself before the treaty is ratified",
    "a triangle has sides x, x + 1 and x + 2",
    "a list is sorted by its second column and then by its first",
    "the pressure of an ideal gas doubles at constant volume",
]
LINKS = ["Moreover,", "Assume also that", "In addition,", "By contrast,", "Note that", "Suppose further that"]

#: A mix, and the words of its queries: mean, and spread of the logarithm. A word is 1.3 pieces or so.
KINDS = {"short": (14, 0.25), "mixed": (50, 0.9), "long": (300, 0.15)}
#: Word pieces for the figures that are stated per length.
LENGTHS = (32, 128)


def texts(kind: str, count: int, seed: int = 0) -> list[str]:
    """Return `count` different queries of a mix."""
    middle, spread = KINDS[kind]
    rng = np.random.default_rng([seed, count, middle])
    words = np.clip(middle * np.exp(rng.normal(scale=spread, size=count)), 6, 600).astype(int)
    return [_text(int(number), rng) for number in words]


def texts_of_length(
    pieces: int, count: int, count_pieces: Callable[[list[str]], Sequence[int]], seed: int = 0
) -> list[str]:
    """Return `count` different queries of nearly so many word pieces, as `count_pieces` counts them."""
    rng = np.random.default_rng([seed, count, pieces])
    made = [_text(pieces, rng).split() for _ in range(count)]
    for _ in range(20):
        over = np.asarray(count_pieces([" ".join(words) for words in made])) - pieces
        if (over <= 0).all():
            break
        # From the middle, so that the end, which makes each text its own, stays.
        made = [
            words[: -1 - max(1, round(extra / 2))] + words[-1:] if extra > 0 else words
            for words, extra in zip(made, over, strict=True)
        ]
    return [" ".join(words) for words in made]


def _text(words: int, rng: np.random.Generator) -> str:
    parts = [str(rng.choice(OPENINGS)), str(rng.choice(THINGS)) + "."]
    while sum(len(part.split()) for part in parts) < words:
        parts += [str(rng.choice(LINKS)), str(rng.choice(THINGS)) + "."]
    cut = " ".join(parts).split()[: max(words - 1, 1)]
    return " ".join([*cut, f"{rng.integers(10**6)}?"])
