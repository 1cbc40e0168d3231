"""The columns of the record and the tidy form, and a file's own names for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eccos_rs.domain.validation import did_you_mean, nearest_name
from eccos_rs.errors import RecordError
from eccos_rs.records.check import ColumnError, Place
from eccos_rs.records.files import iter_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["OPTION_COLUMNS", "OUTPUT_COLUMNS", "RECORD_COLUMNS", "TIDY_COLUMNS", "ColumnMap"]

RECORD_COLUMNS = {"query", "dataset", "input_tokens", "outputs", "id", "query_id"}
OUTPUT_COLUMNS = {"model", "quality", "output_tokens", "cost_usd", "input_tokens"}
TIDY_COLUMNS = {
    "query_id", "dataset", "query", "model", "quality", "input_tokens", "output_tokens", "cost_usd"
}  # fmt: skip

OPTION_COLUMNS = {"effort", "lane"}
"""How a model was asked: beside `model` in both forms, where it was asked in several ways."""

_INSIDE = "outputs."


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """A file's own names for the columns.

    Attributes
    ----------
    names : mapping of str to str
        Column of the form to column of the file. `outputs.quality` stands for `quality` inside the outputs.
    dataset : str or None
        In place of a missing `dataset`.

    Raises
    ------
    RecordError
        A name that is no column of the record or the tidy form.

    Examples
    --------
    >>> ColumnMap.parse(["prompt=query"]).names
    {'query': 'prompt'}
    """

    names: Mapping[str, str] = field(default_factory=dict)
    dataset: str | None = None

    def __post_init__(self) -> None:
        inside = {f"{_INSIDE}{name}" for name in OUTPUT_COLUMNS | OPTION_COLUMNS}
        known = RECORD_COLUMNS | TIDY_COLUMNS | OPTION_COLUMNS | inside
        for name in self.names:
            if name not in known:
                raise RecordError(
                    f"map: {name!r} is no column of a record"
                    f"{did_you_mean(name, sorted(known), otherwise='wanted one of')}"
                )

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> ColumnMap:
        """Read `COLUMN=FIELD`, as the command line has it: the file's name first.

        Raises
        ------
        RecordError
            Another form, a field that there is not, or one that is named twice.
        """
        names: dict[str, str] = {}
        for pair in (part for each in pairs for part in each.split(",") if part.strip()):
            column, equals, name = (part.strip() for part in pair.rpartition("="))
            if not (equals and column and name):
                raise RecordError(
                    f"map: got {pair!r}, wanted COLUMN=FIELD, the file's name first (prompt=query)"
                )
            if name in names:
                raise RecordError(f"map: got two columns for {name}: {names[name]!r} and {column!r}")
            names[name] = column
        return cls(names)

    def column(self, name: str) -> str:
        """Return what the file calls a column."""
        return self.names.get(name, name)

    def rows(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
        """Stream a file's rows, as `iter_rows`, under the names of the form.

        Raises
        ------
        ColumnError
            The first row lacks a column that is named.
        """
        if not self.names and self.dataset is None:
            yield from iter_rows(path)
            return
        outer = {name: column for name, column in self.names.items() if not name.startswith(_INSIDE)}
        inner = {
            name.removeprefix(_INSIDE): column
            for name, column in self.names.items()
            if name.startswith(_INSIDE)
        }
        for number, row in iter_rows(path):
            place = Place(path.name, number)
            made = _renamed(row, outer, place)
            outputs = made.get("outputs")
            if inner and isinstance(outputs, list):
                made["outputs"] = [
                    _renamed(item, inner, place.at("outputs")) if isinstance(item, Mapping) else item
                    for item in outputs
                ]
            if self.dataset is not None:
                made.setdefault("dataset", self.dataset)
            yield number, made


def _renamed(row: Mapping[str, Any], names: Mapping[str, str], place: Place) -> dict[str, Any]:
    taken = set(names.values())
    made = {column: value for column, value in row.items() if column not in taken}
    for name, column in names.items():
        if column not in row:
            near = nearest_name(column, row, cutoff=0.75)
            hint = f"did you mean {near!r}?" if near else f"the columns are {', '.join(map(repr, row))}"
            raise ColumnError(
                f"{place}: there is no column {column!r} to take {name} from; {hint}", (column,)
            )
        if name in made:
            raise ColumnError(
                f"{place}: {name} is taken from {column!r}, and there is a column {name!r} too; "
                f"leave one of them out of the file, or map {name!r} to another field",
                (name,),
            )
        made[name] = row[column]
    return made
