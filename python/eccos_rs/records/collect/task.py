"""Task files: what is asked, and how an answer is graded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place, check_columns
from eccos_rs.records.files import iter_rows
from eccos_rs.records.seen import SeenIds

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Kind", "Task", "read_tasks"]

Kind = Literal["multiple_choice", "numeric", "exact", "free"]
KINDS = ("multiple_choice", "numeric", "exact", "free")
COLUMNS = {"query", "answer", "kind", "choices", "dataset", "id", "tolerance", "max_output_tokens"}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Task:
    """One question with what a right answer is.

    Attributes
    ----------
    query : str
        The question, without its options.
    kind : {"multiple_choice", "numeric", "exact", "free"}
        How an answer is graded; `free` asks a judge.
    answers : tuple of str
        What counts as right: one letter, one number, texts of which one must be met, or a reference for the
        judge (may be
        empty).
    choices : tuple of str
        The options of a multiple choice, lettered A, B, C, ...
    dataset : str
        Where the question comes from.
    id : str or None
        Unique within the file when given.
    tolerance : float
        Relative error that a numeric answer may have.
    max_output_tokens : int or None
        The longest answer for this task, tokens; by default the collection's.
    """

    query: str
    kind: Kind
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    dataset: str = "tasks"
    id: str | None = None
    tolerance: float = 1e-4
    max_output_tokens: int | None = None

    @property
    def text(self) -> str:
        """The question with its options: what a router sees."""
        listed = (f"\n({LETTERS[index]}) {choice}" for index, choice in enumerate(self.choices))
        return self.query + "".join(listed)

    @property
    def digest(self) -> str:
        """What tells the task apart in a journal: all that is asked, not how it is graded."""
        asked = json.dumps([self.text, self.kind, self.dataset, self.id, self.max_output_tokens])
        return hashlib.blake2b(asked.encode(), digest_size=12).hexdigest()


def read_tasks(path: str | Path, *, dataset: str | None = None) -> list[Task]:
    """Read a task file.

    Parameters
    ----------
    path : path
        JSONL, JSON, CSV or Parquet; a row has `query`, `answer`, and `kind` (with `choices` it is multiple
        choice), and may
        have `dataset`, `id`, `tolerance`, `max_output_tokens`.
    dataset : str, optional
        For rows without one; by default the file's name.

    Raises
    ------
    RecordError
        With row and column: a missing answer, an answer that is no option, an id twice, the same task twice.
    """
    path = Path(path)
    seen, digests = SeenIds(), SeenIds()
    tasks = []
    for number, row in iter_rows(path):
        place = Place(path.name, number)
        task = _task(row, place, dataset or path.name.split(".")[0])
        if task.id is not None:
            seen.add(task.id, place.at("id"))
        if digests.row_of(task.digest) is not None:
            raise place.at("query").fail(f"the same task stands in row {digests.row_of(task.digest)} already")
        digests.add(task.digest, place)
        tasks.append(task)
    if not tasks:
        raise RecordError(f"{path}: holds no task")
    return tasks


def _task(row: Mapping[str, Any], place: Place, dataset: str) -> Task:
    check_columns(row, place, known=COLUMNS, needed=("query",))
    choices = _choices(row.get("choices"), place.at("choices"))
    kind = row.get("kind") or ("multiple_choice" if choices else None)
    if not _is_kind(kind):
        raise place.at("kind").fail(f"got {kind!r}, wanted one of {', '.join(KINDS)}")
    if (kind == "multiple_choice") != bool(choices):
        raise place.at("choices").fail(f"kind {kind!r} {'needs' if not choices else 'takes no'} choices")
    tolerance, longest = row.get("tolerance"), row.get("max_output_tokens")
    name = row.get("id")
    return Task(
        query=place.at("query").text(row["query"]),
        kind=kind,
        answers=_answers(row.get("answer"), kind, choices, place.at("answer")),
        choices=choices,
        dataset=place.at("dataset").text(row.get("dataset") or dataset),
        id=None if name is None else place.at("id").text(str(name)),
        tolerance=1e-4 if tolerance is None else place.at("tolerance").money(tolerance),
        max_output_tokens=None if longest is None else max(place.at("max_output_tokens").count(longest), 1),
    )


def _is_kind(value: Any) -> TypeGuard[Kind]:
    return value in KINDS


def _choices(value: Any, place: Place) -> tuple[str, ...]:
    if value is None or value in ("", []):
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            raise place.fail("got a text, wanted a list of options") from None
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise place.fail(f"wanted a list of 2 to {len(LETTERS)} options")
    return tuple(place.text(str(choice)) for choice in value)


def _answers(value: Any, kind: Kind, choices: tuple[str, ...], place: Place) -> tuple[str, ...]:
    if value is None and kind == "free":
        return ()
    if value is None or value in ("", []):
        raise place.fail("is missing")
    if kind == "multiple_choice":
        return (_letter(value, choices, place),)
    if kind == "numeric":
        from eccos_rs.records.collect.grade import number_of

        if number_of(str(value)) is None:
            raise place.fail(f"got {value!r}, wanted a number")
    values = value if isinstance(value, list) else [value]
    return tuple(place.text(str(item)) for item in values)


def _letter(value: Any, choices: tuple[str, ...], place: Place) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return LETTERS[value]
    text = str(value).strip()
    if len(text) == 1 and text.upper() in LETTERS[: len(choices)]:
        return text.upper()
    if text in choices:
        return LETTERS[choices.index(text)]
    wanted = f"a letter A to {LETTERS[len(choices) - 1]}, a position from 0, or the text of an option"
    raise place.fail(f"got {value!r}, wanted {wanted}")
