"""Task files: what is asked, and how an answer is graded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

from eccos_rs.errors import RecordError
from eccos_rs.records.check import Place, check_columns
from eccos_rs.records.collect.numbers import parse_number
from eccos_rs.records.files import iter_rows
from eccos_rs.records.seen import SeenIds
from eccos_rs.records.tidy import number_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = ["Kind", "Task", "read_tasks"]

Kind = Literal["multiple_choice", "numeric", "exact", "free"]
KINDS = ("multiple_choice", "numeric", "exact", "free")
COLUMNS = {
    "query", "messages", "system", "answer", "kind", "choices", "dataset", "id", "tolerance",
    "max_output_tokens",
}  # fmt: skip
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
        judge (may be empty).
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
    messages : tuple of mapping
        A chat in place of `query` (which is then empty); its last user message asks.
    system : str or None
        A system prompt, sent before everything else.
    fields : tuple of (str, value)
        What else is sent with the chat: tools, tool_choice, response_format.
    """

    query: str
    kind: Kind
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    dataset: str = "tasks"
    id: str | None = None
    tolerance: float = 1e-4
    max_output_tokens: int | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    system: str | None = None
    fields: tuple[tuple[str, Any], ...] = ()

    @property
    def text(self) -> str:
        """The question with its options: what a router sees."""
        if not self.messages and self.system is None:
            return self.query + self.options
        from eccos_rs.domain.query import Query

        return Query(messages=tuple(self.chat())).prompt

    @property
    def options(self) -> str:
        """The options of a multiple choice, lettered, a line each."""
        listed = (f"\n({LETTERS[index]}) {choice}" for index, choice in enumerate(self.choices))
        return "".join(listed)

    def chat(self, ending: str = "") -> list[dict[str, Any]]:
        """Return the messages that ask the task, with `ending` behind what is asked."""
        messages = [dict(m) for m in self.messages] or [{"role": "user", "content": self.query}]
        asked = max((at for at, m in enumerate(messages) if m["role"] == "user"), default=len(messages) - 1)
        content, more = messages[asked].get("content") or "", self.options + ending
        if isinstance(content, str):
            messages[asked]["content"] = content + more
        elif more:
            messages[asked]["content"] = [*content, {"type": "text", "text": more.lstrip("\n")}]
        return messages if self.system is None else [{"role": "system", "content": self.system}, *messages]

    @property
    def digest(self) -> str:
        """What tells the task apart in a journal: all that is asked, not how it is graded."""
        return self._digest(self.id)

    @property
    def question(self) -> str:
        """What tells questions apart: as `digest`, whatever the id."""
        return self._digest(None)

    def _digest(self, name: str | None) -> str:
        asked: list[Any] = [self.text, self.kind, self.dataset, name, self.max_output_tokens]
        if self.messages or self.system is not None:
            asked.append(self.chat())
        if self.fields:
            asked.append(list(self.fields))
        return hashlib.blake2b(json.dumps(asked).encode(), digest_size=12).hexdigest()


def read_tasks(
    path: str | Path,
    *,
    dataset: str | None = None,
    ignore: Collection[str] = (),
    on_duplicate: Callable[[str], object] | None = None,
) -> list[Task]:
    """Read a task file.

    Parameters
    ----------
    path : path
        JSON lines, JSON, CSV or Parquet; a row has `query` or `messages` (a chat), `answer`, and `kind` (with
        `choices` it is multiple choice), and may have `system` (a system prompt), `dataset`, `id`,
        `tolerance`, `max_output_tokens`.
    dataset : str, optional
        For rows without one; by default the file's name.
    ignore : collection of str
        Unknown columns to leave out; `"*"` stands for all.
    on_duplicate : callable, optional
        Takes a sentence for each row that asks what an earlier row asks; it is merged into that one.

    Raises
    ------
    RecordError
        With row and column: a missing answer, an answer that is no option, an id twice, the same question
        with two answers.
    """
    path = Path(path)
    seen = SeenIds()
    first: dict[str, tuple[int, Task]] = {}
    tasks = []
    for number, row in iter_rows(path):
        place = Place(path.name, number)
        task = _task(row, place, dataset or path.name.split(".")[0], ignore)
        earlier, known = first.setdefault(task.question, (number, task))
        if known is not task:
            _merge(known, task, earlier, place, on_duplicate)
            continue
        if task.id is not None:
            seen.add(task.id, place.at("id"))
        tasks.append(task)
    if not tasks:
        raise RecordError(f"{path}: holds no task")
    return tasks


def _merge(
    known: Task, task: Task, earlier: int, place: Place, on_duplicate: Callable[[str], object] | None
) -> None:
    if (known.answers, known.tolerance) != (task.answers, task.tolerance):
        raise place.at("answer").fail(
            f"the same task stands in row {earlier} with the answer {' / '.join(known.answers)!r}, "
            f"here it is {' / '.join(task.answers)!r}"
        )
    if on_duplicate is not None:
        on_duplicate(f"{place}: the same task stands in row {earlier} already; merged")


def _task(row: Mapping[str, Any], place: Place, dataset: str, ignore: Collection[str]) -> Task:
    needed = () if "messages" in row else ("query",)
    check_columns(row, place, known=COLUMNS, needed=needed, ignore=ignore)
    # A table writes an empty cell for what a row does not have.
    row = {name: value for name, value in row.items() if name == "query" or not is_blank(value)}
    messages = _messages(row.get("messages"), place.at("messages"))
    system = row.get("system")
    choices = _choices(row.get("choices"), place.at("choices"))
    kind = row.get("kind") or ("multiple_choice" if choices else None)
    if not _is_kind(kind):
        raise place.at("kind").fail(f"got {kind!r}, wanted one of {', '.join(KINDS)}")
    if (kind == "multiple_choice") != bool(choices):
        raise place.at("choices").fail(f"kind {kind!r} {'needs' if not choices else 'takes no'} choices")
    tolerance, longest = row.get("tolerance"), row.get("max_output_tokens")
    name = row.get("id")
    return Task(
        query="" if messages else place.at("query").text(row["query"]),
        kind=kind,
        answers=_answers(row.get("answer"), kind, choices, place.at("answer")),
        choices=choices,
        dataset=place.at("dataset").text(row.get("dataset") or dataset),
        id=None if name is None else place.at("id").text(str(name)),
        tolerance=1e-4 if tolerance is None else place.at("tolerance").money(number_in(tolerance)),
        max_output_tokens=None
        if longest is None
        else max(place.at("max_output_tokens").count(number_in(longest)), 1),
        messages=messages,
        system=None if system is None else place.at("system").text(system),
    )


def is_blank(value: Any) -> bool:
    """Tell whether a cell is how a table writes nothing."""
    return value is None or value in ("", []) or (isinstance(value, float) and isnan(value))


def _messages(value: Any, place: Place) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        return ()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise place.fail("got a text, wanted a list of chat messages") from None
    from eccos_rs.domain.query import Query
    from eccos_rs.errors import QueryError

    try:
        chat = Query(messages=value).messages or ()
    except QueryError as error:
        raise place.fail(str(error)) from error
    # Arrow gives every message all keys that any of them has.
    return tuple({key: item for key, item in message.items() if item is not None} for message in chat)


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
    if kind == "numeric" and parse_number(str(value)) is None:
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
