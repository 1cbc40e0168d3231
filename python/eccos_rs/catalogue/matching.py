"""Which published names mean the model that was asked for, and how sure that is.

A match is never silent about a difference: another release, another effort or a preview adds a standard
deviation and a word that `Match.how` tells. Another version, size or variant is another model and never
matches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eccos_rs.catalogue.names import EFFORTS, ModelName, parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Match", "NameIndex", "same_date"]

# Standard deviations in log odds that a difference adds (chosen on LiveBench, which lists efforts and
# releases).
_EFFORT_STEP = 0.15
_OTHER_RELEASE, _A_YEAR = 0.25, 0.3
_PREVIEW = 0.10
_UNDATED = 0.05
_TOO_FAR = 0.65
_VERSIONS_BACK = 2.0
_NO_FAMILY = {"instruct", "base"}
"""Words that other spellings of the same model leave out or write otherwise."""
_RANK = {effort: float(rank) for rank, effort in enumerate(EFFORTS)}
_UNTOLD = _RANK["medium"]
_THINKING = _RANK["medium"] + 0.5


@dataclass(frozen=True, slots=True)
class Match:
    """One spelling of a table that stands for the model asked for.

    Parameters
    ----------
    spelling : str
    extra_sd : float
        Log odds by which the difference widens what the spelling tells; 0 for the same model.
    how : str
        The difference in words; empty for the same model.
    """

    spelling: str
    extra_sd: float
    how: str


class NameIndex:
    """The spellings of a table, found by any spelling of the same model.

    Parameters
    ----------
    spellings : iterable of str
    bases : iterable of str
        Those that are base models although their spelling does not say so.
    """

    def __init__(self, spellings: Iterable[str], bases: Iterable[str] = ()) -> None:
        self._marked = frozenset(bases)
        self._squeezed = [(_squeezed(spelling), spelling) for spelling in spellings]

    def find(self, asked: str, effort: str | None = None) -> list[Match]:
        """Return the spellings of the same model, the surest first; empty when there is none.

        Parameters
        ----------
        asked : str
            Any spelling.
        effort : str, optional
            The reasoning effort, where the spelling does not say.
        """
        name = parse_name(asked)
        effort = effort or name.effort
        found = self._same(name)
        newest = max((date for other in found for date in other.dated), key=_newness, default="")
        matches = []
        for other in found:
            release_sd, release = _release_gap(name, other, newest)
            effort_sd, told = _effort_gap(effort, other.effort)
            extra = float((release_sd**2 + effort_sd**2) ** 0.5)
            if extra <= _TOO_FAR:
                how = ", ".join(word for word in (release, told) if word)
                matches.append(Match(other.spelling, round(extra, 4), how))
        return sorted(matches, key=lambda match: (match.extra_sd, match.spelling))

    def predecessor(self, asked: str) -> str | None:
        """Return a spelling of the nearest older version of a model; None where there is none.

        The words of the name are the same and its one version number is lower, by less than two.
        """
        name = parse_name(asked)
        number = _version(name)
        if number is None:
            return None
        older = [
            (version, other.spelling)
            for other, identity in self._kin(name)
            if other.family == name.family
            and "base" not in identity
            and (version := _version(other)) is not None
            and number - _VERSIONS_BACK < version < number
        ]
        return max(older, key=lambda each: (each[0], _reversed(each[1])))[1] if older else None

    def _same(self, name: ModelName) -> list[ModelName]:
        return [other for other, identity in self._kin(name) if identity == name.identity]

    def _kin(self, name: ModelName) -> Iterator[tuple[ModelName, frozenset[str]]]:
        """Yield the names that hold the word of a family, and their identities; only these are parsed."""
        word = max(name.identity - _NO_FAMILY, key=lambda w: (w.isalpha(), len(w), w), default="")
        for squeezed, spelling in self._squeezed:
            if word in squeezed:
                other = parse_name(spelling)
                yield other, other.identity | {"base"} if spelling in self._marked else other.identity


def _version(name: ModelName) -> float | None:
    numbers = [float(word) for word in name.identity if re.fullmatch(r"\d+(?:\.\d+)?", word)]
    return numbers[0] if len(numbers) == 1 else None


def _reversed(text: str) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in text)


def _squeezed(spelling: str) -> str:
    return "".join(letter for letter in spelling.lower() if letter.isalnum())


def same_date(one: str, other: str) -> bool:
    """Return whether two dates may be the same: ``0806`` and ``20240806``, ``2407`` and ``20240715``."""
    short, full = sorted((one, other), key=len)
    if short == full:
        return True
    if len(full) == len("20240806"):
        return (
            full.endswith(short)
            or (len(short) == len("202408") and full.startswith(short))
            or full[2:6] == short
        )
    return full[2:] == short  # 202407 and 2407


def _newness(date: str) -> str:
    """Sort key: dates without a year come before those with one."""
    if len(date) == len("2407") and "23" <= date[:2] <= "39":
        return f"20{date}"
    return date if len(date) > len("0806") else f"0000{date}"


def _years_apart(one: str, other: str) -> float:
    """Return the years between two dates, 0 where one of them tells no year."""
    months = []
    for date in (_newness(one), _newness(other)):
        if date.startswith("0000"):
            return 0.0
        months.append(int(date[:4]) * 12 + int(date[4:6]))
    return abs(months[0] - months[1]) / 12


def _release_gap(asked: ModelName, other: ModelName, newest: str) -> tuple[float, str]:
    preview = _PREVIEW if ("preview" in asked.release) != ("preview" in other.release) else 0.0
    word = "preview" if preview and "preview" in other.release else ("released version" if preview else "")
    if asked.dated and other.dated:
        if any(same_date(one, two) for one in asked.dated for two in other.dated):
            return preview, word
        apart = min(_years_apart(one, two) for one in asked.dated for two in other.dated)
        return _OTHER_RELEASE + _A_YEAR * apart, f"release {min(other.dated)}"
    if not asked.dated and not other.dated:
        return preview, word
    if asked.dated:
        return max(_UNDATED, preview), word or "undated"
    # An undated name means the newest release; an older one is another.
    if newest in other.dated:
        return max(_UNDATED, preview), word
    return _OTHER_RELEASE, f"release {min(other.dated)}"


def _effort_gap(asked: str | None, other: str | None) -> tuple[float, str]:
    if asked == other:
        return 0.0, ""
    steps = abs(_rank(asked) - _rank(other))
    told = "effort not told" if other is None else ("thinking" if other == "thinking" else f"effort {other}")
    return _EFFORT_STEP * max(steps, 0.5), told


def _rank(effort: str | None) -> float:
    if effort is None:
        return _UNTOLD
    return _THINKING if effort == "thinking" else _RANK[effort]
