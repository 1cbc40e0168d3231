"""A log of requests as it is: a fair sample of its rows, each request once, and who answered it."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.bulk.queries import RowReader
from eccos_rs.bulk.requests import from_cell, unwrap_request
from eccos_rs.catalogue.names import EFFORTS, join_options
from eccos_rs.dialects.chat import asked_effort
from eccos_rs.domain.llm import LANES
from eccos_rs.domain.times import parse_time
from eccos_rs.errors import InputError, QueryError, RecordError
from eccos_rs.records.collect.numbers import parse_number
from eccos_rs.records.collect.task import LETTERS, Task
from eccos_rs.records.files import iter_values
from eccos_rs.records.forms import detect_layout
from eccos_rs.records.grouping import normalise
from eccos_rs.start.usage import Used, read_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eccos_rs.routing.query import Query

__all__ = ["Entry", "Log", "read_log"]

ANSWERS = ("answer", "expected", "expected_answer", "reference", "ideal")
"""Columns that hold what a right answer is."""
TIMES = ("startTime", "start_time", "created_at", "created", "timestamp", "time", "at", "ts", "date")
"""Columns that hold when a request came, the one that counts first."""
SENT_ALONG = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
"""Fields of a request that are sent with it when a model is asked."""
_SHORT_ANSWER = 40
"""Characters up to which an expected answer is compared word by word; a longer one is a judge's reference."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, however often it was made.

    Attributes
    ----------
    query : Query
        What a router sees.
    task : Task
        What a model is asked, and how its answer is graded.
    count : int
        Rows that make it.
    today : str or None
        The model that answered it most often, as the log names it.
    times : tuple of float
        When each of its rows came, seconds since 1970; of the rows that say so.
    used : dict of str to Used
        By model, as the log names it: what its answers to this request took; of the rows that count it.
    """

    query: Query
    task: Task
    count: int
    today: str | None
    times: tuple[float, ...] = ()
    used: dict[str, Used] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Log:
    """What a log holds.

    Attributes
    ----------
    name : str
    entries : tuple of Entry
        Distinct requests of the rows that were looked at.
    rows, read : int
        Rows of the file, and those that were looked at.
    unreadable : int
        Of those, rows that hold no request.
    problem : str or None
        What is wrong with the first of these.
    models : Counter
        Rows by the model that the log names.
    spent : float or None
        US dollars that the log states for the rows looked at; None where it states none.
    """

    name: str
    entries: tuple[Entry, ...]
    rows: int
    read: int
    unreadable: int
    problem: str | None
    models: Counter[str]
    spent: float | None

    @property
    def requests(self) -> int:
        """Rows looked at that hold a request."""
        return self.read - self.unreadable


def read_log(path: str | Path, *, sample: int, column: str | None = None, seed: int = 0) -> Log:
    """Read a log.

    Parameters
    ----------
    path : path
        Lines of text, JSON lines, JSON, CSV or Parquet: request bodies, batch files, LiteLLM's spend logs,
        chats, plain queries; packed or not, of any size.
    sample : int
        Rows that are kept in memory: of a longer file a fair sample, the same for the same seed.
    column : str, optional
        The column with the text or the messages.
    seed : int

    Raises
    ------
    InputError
        No row holds a request; the first row's problem is named.
    """
    path = Path(path)
    reservoir, errors = _Reservoir(sample, seed), _BadRows()
    if not path.is_file():
        with path.open("rb"):  # the system's own words: not there, a folder, not allowed
            pass
    layout = detect_layout(path, () if column is None else (column,))
    try:
        for number, value in iter_values(path, layout, name=path.name, on_error=errors.add):
            reservoir.add((number, value))
    except RecordError as error:
        raise InputError(str(error)) from error
    reader, word = RowReader(column), "line" if layout.form in ("text", "jsonl") else "row"
    requests: dict[str, _Request] = {}
    models: Counter[str] = Counter()
    spent: list[float] = []
    for number, value in reservoir.kept:
        try:
            one = _request(reader, f"{path.name}, {word} {number}", value)
        except (QueryError, RecordError) as error:
            errors.add(error)
            continue
        requests.setdefault(one.key, replace(one, times=())).count += 1
        if one.today is not None:
            models[one.today] += 1
            requests[one.key].by[one.today] += 1
        requests[one.key].times += one.times
        if one.spent is not None:
            spent.append(one.spent)
        if one.today is not None and one.usage is not None:
            held = requests[one.key].used
            held[one.today] = held.get(one.today, Used()) + one.usage
    if not requests:
        what = "is empty" if errors.first is None else f"holds no request: {errors.first}"
        raise InputError(f"{path}: {what}")
    entries = tuple(one.entry() for one in requests.values())
    read = len(reservoir.kept) + errors.lines
    return Log(
        path.name, entries, reservoir.seen + errors.lines, read, errors.count, errors.first, models,
        sum(spent) if spent else None,
    )  # fmt: skip


class _Reservoir:
    """A fair sample of a stream of unknown length (Vitter's algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self.kept: list[Any] = []
        self.seen = 0
        self._size, self._random = size, random.Random(seed)

    def add(self, item: Any) -> None:
        self.seen += 1
        if len(self.kept) < self._size:
            self.kept.append(item)
            return
        at = self._random.randrange(self.seen)
        if at < self._size:
            self.kept[at] = item


@dataclass(slots=True)
class _BadRows:
    """Rows that hold no request: how many, and what is wrong with the first."""

    count: int = 0
    lines: int = 0
    first: str | None = None

    def add(self, error: Exception) -> None:
        self.count += 1
        if isinstance(error, RecordError):
            self.lines += 1
        if self.first is None:
            self.first = str(error)


@dataclass(slots=True)
class _Request:
    """A request while its repetitions are counted."""

    key: str
    query: Query
    task: Task
    today: str | None
    spent: float | None
    usage: Used | None
    times: tuple[float, ...] = ()
    count: int = 0
    by: Counter[str] = field(default_factory=Counter)
    used: dict[str, Used] = field(default_factory=dict)

    def entry(self) -> Entry:
        most = self.by.most_common(1)
        today = most[0][0] if most else None
        return Entry(self.query, self.task, self.count, today, self.times, self.used)


def _request(reader: RowReader, place: str, value: Any) -> _Request:
    row = reader.row(place, value)
    body = unwrap_request(dict(row.own)) if row.own and reader.column is None else dict(row.own)
    query = replace(row.query, id=None)
    if query.messages is not None:
        query = replace(query, messages=_asked(query.messages, place))
    fields = tuple(
        (name, from_cell(body[name])) for name in SENT_ALONG if body.get(name) not in (None, "", [])
    )
    task = _task(query, row.own, fields, place)
    if not task.text.strip() and not query.vision:
        raise QueryError(f"{place}: nothing is asked")
    if task.choices:
        query = replace(query, text=task.text)
    # A schema or tools make another request of the same words.
    key = "\n".join([normalise(task.text) or task.text, json.dumps(fields, sort_keys=True, default=str)])
    today = _answering_model(row.own, body)
    time = parse_time(next((row.own[name] for name in TIMES if row.own.get(name) not in (None, "")), None))
    return _Request(
        key, query, task, today, _dollars(row.own.get("spend")), read_usage(row.own),
        () if time is None else (time,),
    )  # fmt: skip


def _answering_model(own: Mapping[str, Any], body: Mapping[str, Any]) -> str | None:
    """Return the model that a row names, with the effort and the lane that it was asked at."""
    model = own.get("model_group") or own.get("model") or body.get("model")
    if not model:
        return None
    effort, lane = asked_effort(body), body.get("service_tier")
    known = effort if effort in EFFORTS else None
    return join_options(str(model), known, lane if lane in LANES else None)


def _asked(messages: Iterable[Mapping[str, Any]], place: str) -> tuple[Mapping[str, Any], ...]:
    """Return a chat up to what was asked: an answer that stands at its end is not sent along."""
    asked = list(messages)
    while asked and asked[-1]["role"] == "assistant":
        asked.pop()
    if not asked:
        raise QueryError(f"{place}: the chat holds answers alone; wanted what was asked")
    # Arrow gives every message all keys that any of them has.
    return tuple({key: item for key, item in message.items() if item is not None} for message in asked)


def _task(query: Query, own: Mapping[str, Any], fields: tuple[tuple[str, Any], ...], place: str) -> Task:
    answer = next((own[name] for name in ANSWERS if own.get(name) not in (None, "", [])), None)
    choices = from_cell(own.get("choices")) if own.get("choices") else ()
    listed = tuple(str(each) for each in choices) if isinstance(choices, list | tuple) else ()
    kind, answers = _graded_by(answer, listed if 2 <= len(listed) <= len(LETTERS) else (), own.get("kind"))
    return Task(
        query=query.text or "",
        kind=kind,  # type: ignore[arg-type]  # one of its four
        answers=answers,
        choices=listed if kind == "multiple_choice" else (),
        dataset="log",
        max_output_tokens=query.max_output_tokens,
        messages=query.messages or (),
        fields=fields,
    )


def _graded_by(answer: Any, choices: Sequence[str], kind: Any) -> tuple[str, tuple[str, ...]]:
    """Return how an answer is graded: by rule where the expected one allows it, else by a judge."""
    if answer is None:
        return "free", ()
    texts = tuple(str(each).strip() for each in (answer if isinstance(answer, list | tuple) else [answer]))
    if choices:
        letter = texts[0].upper()
        if len(letter) == 1 and letter in LETTERS[: len(choices)]:
            return "multiple_choice", (letter,)
        if texts[0] in choices:
            return "multiple_choice", (LETTERS[choices.index(texts[0])],)
    if kind == "free" or max(map(len, texts)) > _SHORT_ANSWER:
        return "free", texts
    if kind != "exact" and _is_number(texts[0]):
        return "numeric", texts[:1]
    return "exact", texts


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return parse_number(text) is not None


def _dollars(value: Any) -> float | None:
    try:
        paid = float(value)
    except (TypeError, ValueError):
        return None
    return paid if 0.0 <= paid < float("inf") else None
