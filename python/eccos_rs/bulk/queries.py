"""Files of queries: texts, chats, tables, request bodies, batch files and logs, with their own columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.bulk.requests import TEXT_COLUMNS, from_cell, unwrap_request
from eccos_rs.domain.attachments import definition_tokens
from eccos_rs.domain.query import Query
from eccos_rs.domain.rows import is_blank
from eccos_rs.errors import InputError, QueryError, RecordError
from eccos_rs.records.files import iter_values
from eccos_rs.records.forms import FileLayout, detect_layout

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["QueryRow", "RowReader", "read_query_rows"]

FIELDS = frozenset(each.name for each in fields(Query)) - {"text", "messages", "n"}
NUMBERS = frozenset(
    {"context_tokens", "deadline", "extra_input_tokens", "max_output_tokens", "min_quality", "n", "priority"}
)
LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
"""Keys of the answer's longest length, the one that counts first."""

# What a request to a chat endpoint may hold beside what routing needs; none of it is a slip of the pen.
REQUEST_KEYS = frozenset(
    """
    model stream stream_options temperature top_p n stop seed user metadata store logprobs top_logprobs
    logit_bias presence_penalty frequency_penalty response_format tool_choice parallel_tool_calls functions
    function_call
    reasoning reasoning_effort service_tier modalities audio prediction verbosity safety_identifier timeout
    prompt_cache_key prompt_cache_retention extra_body extra_headers top_k min_p repetition_penalty best_of
    echo suffix web_search_options input instructions previous_response_id truncation include thinking system
    stop_sequences prompt_tokens completion_tokens total_tokens input_tokens output_tokens usage
    """.split()  # noqa: SIM905 - a list of fifty strings is not read
)


@dataclass(frozen=True, slots=True)
class QueryRow:
    """One row of a file of queries.

    Attributes
    ----------
    place : str
        File and line, or row, as an error names it.
    query : Query
    own : dict
        The row's columns, so that they can go to the output; empty for a plain text or a chat.
    """

    place: str
    query: Query
    own: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowReader:
    """Makes a query of a row.

    Parameters
    ----------
    column : str or None
        The column with the text or the messages; by default `messages`, `query`, `text` or `prompt`, and the
        only column of a table with one.
    own : collection of str
        Columns that are the user's own although their names are near to a field of `Query`.

    Notes
    -----
    Columns named like a field of `Query` are read as that field. Recognized beside plain rows: request bodies
    of chat completions, completions and responses; lines of an OpenAI batch file (`custom_id`, `body`);
    LiteLLM's spend logs (`request_id`, `messages` or `proxy_server_request`); logs and traces with a request
    body or a chat in one column, whatever its name (`request`, `input`, `conversations`). See `requests`.
    """

    column: str | None = None
    own: Collection[str] = ()

    def row(self, place: str, value: Any) -> QueryRow:
        """Make a row; QueryError names the place."""
        try:
            if isinstance(value, Mapping):
                return QueryRow(place, self._query(dict(value)), dict(value))
            return QueryRow(place, Query.of(value))
        except QueryError as error:
            raise QueryError(f"{place}: {error}") from error

    def _query(self, row: dict[str, Any]) -> Query:
        if self.column is None:
            row = unwrap_request(row)
        values: dict[str, Any] = {}
        text = self._text_column(row)
        content = from_cell(row[text], lists=text in ("messages", self.column))
        if is_blank(content):
            raise QueryError(f"the column {text!r} is empty; wanted a text or messages")
        values["messages" if isinstance(content, list) else "text"] = content
        for name in sorted((FIELDS & row.keys()) - set(self.own)):
            cell = row[name]
            if not is_blank(cell) and cell != "" and name != text:
                values[name] = _field(name, cell)
        limit = next((key for key in LIMITS if not is_blank(row.get(key)) and row[key] != ""), None)
        if limit is not None:
            values["max_output_tokens"] = _number(row[limit])
        _add_definitions(values, row)
        self._refuse_slips(row, text)
        return Query.of(values)

    def _text_column(self, row: Mapping[str, Any]) -> str:
        if self.column is not None:
            if self.column not in row:
                raise QueryError(f"there is no column {self.column!r}; the columns are {_listed(row)}")
            return self.column
        found = next((name for name in ("messages", *TEXT_COLUMNS) if not is_blank(row.get(name))), None)
        if found is None:
            found = next((name for name in TEXT_COLUMNS if name in row), None)
        if found is None and len(row) == 1 and not FIELDS & row.keys():
            found = next(iter(row))
        if found is None:
            from difflib import get_close_matches

            slip = next(
                (name for name in row if get_close_matches(name, ("query", "messages"), 1, 0.75)), None
            )
            hint = "" if slip is None else f" (did {slip!r} mean it?)"
            raise QueryError(
                f"no column holds the query{hint}; wanted one of query, text, prompt, messages, or name "
                f"yours (--column); the columns are {_listed(row)}"
            )
        return found

    def _refuse_slips(self, row: Mapping[str, Any], text: str) -> None:
        """Refuse a need that is spelt wrong: it would be lost without a word."""
        slip = _slip(tuple(row), text, tuple(self.own))
        if slip is not None:
            raise QueryError(
                f"unknown key {slip[0]!r}; did you mean {slip[1]!r}? "
                f"If it is a column of your own, name it so (--own {slip[0]})"
            )


@lru_cache(maxsize=256)
def _slip(names: tuple[Any, ...], text: str, own: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the first column that is one slip away from a field, and that field (cached)."""
    from difflib import get_close_matches

    for name in names:
        known = name in FIELDS or name in REQUEST_KEYS or name in LIMITS or name in TEXT_COLUMNS
        if known or name in (text, "messages", *own) or not isinstance(name, str) or len(name) <= 4:
            continue
        near = get_close_matches(name, (*FIELDS, *LIMITS), n=1, cutoff=0.86)
        if near:
            return name, near[0]
    return None


def _add_definitions(values: dict[str, Any], row: Mapping[str, Any]) -> None:
    """Count what a request sends beside its text: tool definitions, a schema, answers asked for at once."""
    tools, functions = from_cell(row.get("tools"), lists=True), row.get("functions")
    definitions = [tools if isinstance(tools, list) else None, functions, row.get("response_format")]
    if functions:
        values["tools"] = True
    if "model" not in row or "extra_input_tokens" in values:
        return
    values["extra_input_tokens"] = definition_tokens(*definitions)
    if not is_blank(row.get("n")):
        values["n"] = _number(row["n"])


def _field(name: str, cell: Any) -> Any:
    if name in NUMBERS:
        return _number(cell)
    if name in ("models", "tools"):
        cell = from_cell(cell, lists=True)
    if (
        name in ("tools", "vision")
        and isinstance(cell, str)
        and cell.strip().lower() in ("true", "false", "0", "1")
    ):
        return cell.strip().lower() in ("true", "1")
    if name in ("tools", "vision") and cell in (0, 1):
        return bool(cell)
    if name == "models" and isinstance(cell, str):
        return [part.strip() for part in cell.split(",") if part.strip()]
    if name in ("id", "group") and not isinstance(cell, str):
        return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)
    return cell


_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def _number(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        return int(cell)
    except ValueError:
        try:
            return float(cell)
        except ValueError:
            return cell


def _listed(row: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, row))


def read_query_rows(
    path: str | Path, reader: RowReader | None = None, *, form: str = "auto", name: str | None = None
) -> Iterator[QueryRow]:
    """Stream the rows of a file of queries.

    Parameters
    ----------
    path : path
        Lines of text, JSON lines, JSON, CSV, TSV or Parquet, told by suffix and content, packed or not.
    reader : RowReader, optional
    form : {"auto", "text", "jsonl", "json", "csv", "tsv", "parquet"}
        In place of what suffix and content say.
    name : str, optional
        What errors call the file.

    Raises
    ------
    QueryError
        A row is malformed; the sentence names it.
    InputError
        The file cannot be read.
    """
    path, reader = Path(path), RowReader() if reader is None else reader
    if not path.is_file():
        # Opening it gives the system's own words: not there, a folder, not allowed.
        with path.open("rb"):
            pass
    columns = () if reader.column is None else (reader.column,)
    layout = detect_layout(path, columns) if form == "auto" else _stated(form, path, columns)
    word = "line" if layout.form in ("text", "jsonl") else "row"
    shown = str(path) if name is None else name
    for number, value in _values(path, layout, shown):
        yield reader.row(f"{shown}, {word} {number}", value)


def _stated(form: str, path: Path, columns: tuple[str, ...]) -> FileLayout:
    if form == "tsv":
        return FileLayout("csv", "\t")
    if form == "csv":
        found = detect_layout(path, columns)
        return found if found.form == "csv" else FileLayout("csv")
    if form in ("text", "jsonl", "json", "parquet"):
        return FileLayout(form)  # type: ignore[arg-type]
    raise InputError(f"form: got {form!r}, wanted auto, text, jsonl, json, csv, tsv or parquet")


def _values(path: Path, layout: FileLayout, shown: str) -> Iterator[tuple[int, Any]]:
    try:
        yield from iter_values(path, layout, name=shown)
    except RecordError as error:
        kind = QueryError if layout.form in ("jsonl", "json") else InputError
        raise kind(str(error)) from error
