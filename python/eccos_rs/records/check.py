"""One place that says what is wrong with a value, and where: file, row and column."""

from __future__ import annotations

import math
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.validation import nearest_name
from eccos_rs.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["ColumnError", "Place", "check_columns", "valid_texts"]

# float32 files carry 1.0000001 for 1; anything past this is a real mistake.
ROUNDING = 1e-6
# Past this a count is a slip, and 64-bit columns would overflow before long.
MOST_TOKENS = 1e12


class ColumnError(RecordError):
    """A column is unknown or missing: every row of the file is like that.

    Attributes
    ----------
    columns : tuple of str
        Their names.
    """

    def __init__(self, message: str, columns: tuple[str, ...]) -> None:
        super().__init__(message)
        self.columns = columns


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the file's name, the row (counted from 1) and the column.

    Attributes
    ----------
    source : str
        File name as the reader should find it.
    row : int
        Line of a JSONL file, or data row of a table, from 1.
    column : str
        Column name, with the position inside it when it holds a list.
    unit : str
        What is counted: "row", or "line" of a file of queries.
    """

    source: str
    row: int
    column: str = ""
    unit: str = "row"

    def at(self, column: str) -> Place:
        """Point at another column of the same row."""
        return Place(self.source, self.row, column, self.unit)

    def inside(self, index: int, key: str) -> Place:
        """Point at a field of the `index`-th item of this column."""
        return Place(self.source, self.row, f"{self.column}[{index}].{key}", self.unit)

    def __str__(self) -> str:
        column = f", column {self.column!r}" if self.column else ""
        return f"{self.source}, {self.unit} {self.row}{column}"

    def fail(self, problem: str) -> RecordError:
        """Make an error that names this place."""
        return RecordError(f"{self}: {problem}")

    def text(self, value: Any) -> str:
        """Check a text that is not blank."""
        if not isinstance(value, str):
            raise self.fail(f"got {_shown(value)}, wanted a text")
        if not value.strip():
            raise self.fail("got an empty text")
        return value

    def count(self, value: Any) -> int:
        """Check a whole number that is not negative (12.0 will do, as CSV readers make it)."""
        number = self.number(value)
        if not 0 <= number <= MOST_TOKENS or number != int(number):
            raise self.fail(f"got {_shown(value)}, wanted a whole number of tokens, 0 or more")
        return int(number)

    def money(self, value: Any) -> float:
        """Check an amount in US dollars."""
        number = self.number(value)
        if number < 0:
            raise self.fail(f"got {_shown(value)}, wanted US dollars, 0 or more")
        return number

    def quality(self, value: Any, scale: float = 1.0) -> float:
        """Check a quality, brought to [0, 1] by dividing by `scale`."""
        number = self.number(value) / scale
        if -ROUNDING <= number <= 1.0 + ROUNDING:
            return min(max(number, 0.0), 1.0)
        wanted = "[0, 1]" if scale == 1.0 else f"[0, {scale:g}], the scale that was stated"
        advice = (
            ""
            if number < 0
            else f"; if the whole file is on another scale, state it ({_likely_scale(number * scale)})"
        )
        raise self.fail(f"got {_shown(value)}, wanted a quality in {wanted}{advice}")

    def number(self, value: Any) -> float:
        """Check a finite number; true and false are 1 and 0."""
        if value is None:
            raise self.fail("is missing, wanted a number")
        if not isinstance(value, (int, float)):
            raise self.fail(f"got {_shown(value)}, wanted a number")
        try:
            number = float(value)
        except OverflowError:
            raise self.fail("got a number too large to be one, wanted a finite one") from None
        if not math.isfinite(number):
            raise self.fail(f"got {number}, wanted a finite number")
        return number


def valid_texts(value: Any) -> Any:
    """Return plain data with every lone surrogate in its texts and keys replaced by U+FFFD.

    A lone surrogate is not text: no encoder, tokenizer or file takes it. A proper pair is one character.
    """
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    if isinstance(value, dict):
        return {valid_texts(key): valid_texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [valid_texts(item) for item in value]
    return value


def _likely_scale(value: float) -> str:
    for scale in (5, 10, 100):
        if value <= scale:
            return f"quality_scale={scale}, or --quality-scale {scale} on the command line"
    return "quality_scale, or --quality-scale on the command line"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_columns(
    row: Mapping[str, Any],
    place: Place,
    *,
    known: Collection[str],
    needed: Iterable[str],
    ignore: Collection[str] = (),
) -> None:
    """Refuse a row that lacks a needed column or holds one that nobody knows.

    Parameters
    ----------
    row : mapping
        Column name to value.
    place : Place
        Where the row stands.
    known, needed : collections of str
        Columns that may be there, and those that must.
    ignore : collection of str
        Further columns to leave out in silence; `"*"` stands for all of them.

    Raises
    ------
    RecordError
        With the column's name and, for a likely slip of the pen, the name that was meant.
    """
    for column in needed:
        if column not in row:
            near = nearest_name(column, row, cutoff=0.75)
            hint = f"; did {near!r} mean it?" if near else f"; the columns are {', '.join(map(repr, row))}"
            raise ColumnError(
                f"{place.at(f'{place.column}{column}')}: the column is missing{hint}", (column,)
            )
    if "*" in ignore:
        return
    strange = [str(column) for column in row if column not in known and column not in ignore]
    if not strange:
        return
    near = nearest_name(strange[0], known, cutoff=0.75)
    hint = f"did you mean {near!r}?" if near else f"known are {', '.join(sorted(known))};"
    more = f" (and {', '.join(map(repr, strange[1:]))} beside it)" if len(strange) > 1 else ""
    options = " ".join(f"--ignore-column {quote(column)}" for column in strange)
    them = "it out, name it" if len(strange) == 1 else "them out, name them"
    message = f"nobody knows this column{more}; {hint} to leave {them} in ignore ({options})"
    spot = place.at(f"{place.column}{strange[0]}")
    raise ColumnError(f"{spot}: {message}", tuple(strange))
