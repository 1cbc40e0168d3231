"""What comes in: one query with its hard needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from operator import attrgetter
from typing import Any

from eccos_rs.domain.attachments import IMAGE_PARTS, definition_tokens, image_tokens
from eccos_rs.domain.rows import is_blank, plain_value
from eccos_rs.domain.validation import check_number, check_whole, did_you_mean, shown
from eccos_rs.errors import QueryError

__all__ = ["LARGEST", "Query"]

LARGEST = 2**53
"""Whole numbers of a query lie within this: float64 holds them exactly, and int64 their sums."""

_MOST_CHOICES = 1024

_TEXT_KEYS = ("query", "text", "prompt")
_OUTPUT_KEYS = ("max_output_tokens", "max_completion_tokens", "max_tokens")
_UNROUTABLE_PARTS = ("input_audio", "audio", "video", "video_url", "input_video")


@dataclass(frozen=True, slots=True)
class Query:
    """One query and what it cannot do without.

    Give `text` or `messages`, not both.

    Parameters
    ----------
    text : str, optional
        The question as plain text; it may be empty.
    messages : sequence of mapping, optional
        A chat: mappings with ``role`` and ``content`` (text, or a list of content parts). An image among
        the parts sets `vision`; a tool call or a tool's answer sets `tools`.
    models : sequence of str, optional
        The names that may answer; None means every model of the pool.
    tools, vision : bool
        Abilities that the model must have.
    context_tokens : int, optional
        Tokens that the model's context window must hold beyond the counted prompt and the expected
        output (attachments, tool definitions).
    max_output_tokens : int, optional
        The cap sent to the model; the predicted output is never priced above it.
    extra_input_tokens : int
        Input tokens beyond the text (tool definitions, schemas, files): they count in cost, context window
        and tokens per minute. Images among the messages are estimated and need not be in it.
    n : int
        Answers asked for at once; each is paid for.
    priority : int
        When capacity is short, the lowest goes first into deferral.
    min_quality : float, optional
        A floor in [0, 1] on this query's own predicted success.
    group : str, optional
        The tenant or task it counts for.
    deadline : float, optional
        Seconds within which its answer is wanted: lanes that may take longer are closed to it. `eccos run`
        counts them from the start of the job, and asks no row after its own.
    id : str, optional
        Named in rows and errors.
    session : str, optional
        The conversation that it is a turn of, apart for every `group`: a `Session` counts what the prompt
        caches hold of it. Its messages are the whole chat, the earlier answers among them.

    Raises
    ------
    QueryError
        A field is malformed; the sentence names it.

    Examples
    --------
    >>> Query("What is 2 + 2?").prompt
    'What is 2 + 2?'
    >>> Query.of({"query": "Hi", "min_quality": 0.6}).min_quality
    0.6
    """

    text: str | None = None
    messages: tuple[Mapping[str, Any], ...] | None = None
    models: tuple[str, ...] | None = None
    tools: bool = False
    vision: bool = False
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    priority: int = 0
    min_quality: float | None = None
    group: str | None = None
    id: str | None = None
    extra_input_tokens: int = 0
    n: int = 1
    session: str | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        # A plain text is the usual query of a large batch, and there is nothing more to check about it.
        if type(self.text) is str and _REST(self) == _NOTHING_ELSE and type(self.priority) is int:
            return
        if (self.text is None) == (self.messages is None):
            got = "neither" if self.text is None else "both"
            raise QueryError(f"a query takes exactly one of text and messages; got {got}")
        if self.text is not None and not isinstance(self.text, str):
            raise QueryError(f"text must be a str, got {type(self.text).__name__}")
        for name in ("tools", "vision"):
            if not isinstance(getattr(self, name), bool):
                raise QueryError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.messages is not None:
            self._take_messages(self.messages)
        if self.models is not None:
            object.__setattr__(self, "models", _names(self.models))
        _check_int("context_tokens", self.context_tokens, least=0)
        _check_int("max_output_tokens", self.max_output_tokens, least=1)
        _check_int("priority", self.priority, least=-LARGEST, optional=False)
        _check_int("extra_input_tokens", self.extra_input_tokens, least=0, optional=False)
        _check_int("n", self.n, least=1, most=_MOST_CHOICES, optional=False)
        _check_unit("min_quality", self.min_quality)
        if self.deadline is not None:
            check_number(
                "deadline", self.deadline, error=QueryError, above=True, wanted="be seconds, more than 0"
            )
        for name in ("group", "id", "session"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise QueryError(f"{name} must be a str, got {value!r}")

    def _take_messages(self, messages: Sequence[Mapping[str, Any]]) -> None:
        if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence):
            raise QueryError(f"messages must be a sequence of mappings, got {type(messages).__name__}")
        if not messages:
            raise QueryError("messages is empty; wanted at least one message with role and content")
        for at, message in enumerate(messages):
            _check_message(at, message)
        object.__setattr__(self, "messages", tuple(messages))
        if any(_part_type(part) in IMAGE_PARTS for message in messages for part in _parts(message)):
            object.__setattr__(self, "vision", True)
        if any(message["role"] == "tool" or message.get("tool_calls") for message in messages):
            object.__setattr__(self, "tools", True)

    @classmethod
    def of(cls, item: str | Query | Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> Query:
        """Make a query of what a caller has at hand.

        Parameters
        ----------
        item : str, Query, list of chat messages, or mapping
            A mapping holds ``query`` (or ``text``, ``prompt``) or ``messages``, and any other field of
            `Query`; ``max_tokens`` and ``max_completion_tokens`` are read as `max_output_tokens`, and a
            list of tool definitions as ``tools``.

        Returns
        -------
        Query

        Raises
        ------
        QueryError
            It is none of these, or a key is unknown (the near one is named).
        """
        if isinstance(item, Query):
            return item
        if isinstance(item, str):
            return cls(text=item)
        if isinstance(item, Mapping):
            return _of_mapping(item)
        if isinstance(item, list | tuple):
            return cls(messages=tuple(item))
        raise QueryError(
            f"a query is a str, a list of chat messages, a mapping or a Query; got {type(item).__name__}"
        )

    @property
    def attached_tokens(self) -> int:
        """Input tokens that are not in `prompt`: `extra_input_tokens` and an estimate for every image."""
        if not self.vision or self.messages is None:
            return self.extra_input_tokens
        parts = (part for message in self.messages for part in _parts(message))
        return self.extra_input_tokens + sum(
            image_tokens(part) for part in parts if _part_type(part) in IMAGE_PARTS
        )

    @property
    def question(self) -> str:
        """What is asked, valid Unicode: the text, or the last user turn of a chat.

        It is what a forecast of success is read from: the same question keeps its forecast under any system
        text and after any history. A turn that only carries the talk on ("go on", "yes") is read behind the
        user's turn before it. Without a user turn the whole chat is the question.
        """
        if self.messages is None:
            return _valid_unicode(self.text or "")
        asked: list[str] = []
        for message in reversed(self.messages):
            if message["role"] == "user" and (text := _message_text(message).strip()):
                asked.append(text)
                if text.casefold().strip(_MARKS) not in _CARRY_ON:
                    break
        return _valid_unicode("\n\n".join(reversed(asked))) if asked else self.prompt

    @property
    def prompt(self) -> str:
        """All that is sent as text, valid Unicode, whatever came in: what input tokens are counted of.

        A chat is laid out newest turn first with the system text last.
        """
        if self.messages is None:
            return _valid_unicode(self.text or "")
        turns = [m for m in self.messages if m["role"] not in ("system", "developer")]
        systems = [m for m in self.messages if m["role"] in ("system", "developer")]
        texts = (_message_text(message) for message in [*reversed(turns), *systems])
        return _valid_unicode("\n\n".join(text for text in texts if text))


#: Turns that ask for nothing of their own.
_CARRY_ON = frozenset(
    ("continue", "go on", "keep going", "more", "next", "ok", "okay", "yes", "yes please", "no", "please",
     "please continue", "sure", "thanks", "thank you", "why", "and", "so")
)  # fmt: skip
_MARKS = " .,!?…"

_FIELDS = tuple(field.name for field in fields(Query))
_REST = attrgetter(*(name for name in _FIELDS if name != "text"))
_NOTHING_ELSE = (None, None, False, False, None, None, 0, None, None, None, 0, 1, None, None)
"""What `_REST` gives for a query that is a text and nothing else."""


def all_plain(queries: Sequence[Query]) -> bool:
    """Say whether every query is a text and nothing else: no needs, no limits, no group."""
    return all(_REST(query) == _NOTHING_ELSE for query in queries)


def _of_mapping(item: Mapping[str, Any]) -> Query:
    if "role" in item and "content" in item:
        raise QueryError(
            "got a single chat message where a query was wanted; a chat is a list of messages, "
            "and a batch is a list of chats"
        )
    values: dict[str, Any] = {}
    for key, value in item.items():
        name = "text" if key in _TEXT_KEYS else "max_output_tokens" if key in _OUTPUT_KEYS else key
        if name not in _FIELDS:
            hint = did_you_mean(key, [*_FIELDS, *_TEXT_KEYS, *_OUTPUT_KEYS])
            raise QueryError(f"unknown key {key!r} in a query{hint}")
        if is_blank(value):
            continue
        if name in values:
            raise QueryError(f"key {key!r} gives {name} a second time")
        values[name] = plain_value(name, value)
    if isinstance(values.get("tools"), list | tuple):
        if "extra_input_tokens" not in values:
            values["extra_input_tokens"] = definition_tokens(values["tools"])
        values["tools"] = bool(values["tools"])
    if "text" not in values and "messages" not in values:
        raise QueryError(
            f"a query needs one of the keys query, text, prompt, messages; got {sorted(map(str, item))}"
        )
    return Query(**values)


def _check_message(at: int, message: Any) -> None:
    if not isinstance(message, Mapping):
        raise QueryError(
            f"message {at} must be a mapping with role and content, got {type(message).__name__}"
        )
    if not isinstance(message.get("role"), str):
        raise QueryError(f"message {at} needs a role (a str); got keys {sorted(map(str, message))}")
    content = message.get("content")
    if content is None:
        # An assistant's turn that only calls tools has no content; every other turn says something.
        if message["role"] != "assistant":
            raise QueryError(f"message {at} ({message['role']}) has no content")
    elif not isinstance(content, str | list | tuple):
        raise QueryError(
            f"message {at}: content must be a str or a list of parts, got {type(content).__name__}"
        )
    calls = message.get("tool_calls")
    if calls is not None and (
        not isinstance(calls, list | tuple) or not all(isinstance(call, Mapping) for call in calls)
    ):
        raise QueryError(f"message {at}: tool_calls must be a list of mappings, got {shown(calls)}")
    for part in _parts(message):
        if not isinstance(part, str | Mapping):
            raise QueryError(f"message {at}: a content part must be a mapping, got {type(part).__name__}")
        if _part_type(part) in _UNROUTABLE_PARTS:
            raise QueryError(
                f"message {at}: content of type {_part_type(part)!r} cannot be routed; wanted text or images"
            )


def _parts(message: Mapping[str, Any]) -> Sequence[Any]:
    content = message.get("content")
    return content if isinstance(content, list | tuple) else ()


def _part_type(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, Mapping) else None
    return kind if isinstance(kind, str) else None


def _message_text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    pieces = [content] if isinstance(content, str) else [_part_text(part) for part in _parts(message)]
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            pieces.append(f"{function.get('name', '')} {function.get('arguments', '')}")
    return "\n".join(piece for piece in pieces if piece)


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    for key in ("text", "content"):
        if isinstance(part.get(key), str):
            return str(part[key])
    return ""


def _valid_unicode(text: str) -> str:
    # A lone surrogate is not text: no tokeniser takes it. A proper pair of them is one character.
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _names(models: Any) -> tuple[str, ...]:
    if isinstance(models, str) or not isinstance(models, Sequence | set | frozenset):
        raise QueryError(f"models must be a sequence of names, got {models!r}")
    names = tuple(sorted(models)) if isinstance(models, set | frozenset) else tuple(models)
    if not names or not all(isinstance(name, str) for name in names):
        raise QueryError(f"models must hold at least one name, each a str; got {models!r}")
    return names


def _check_int(name: str, value: Any, *, least: int, most: int = LARGEST, optional: bool = True) -> None:
    if value is None and optional:
        return
    # The bound above is named only to whom it concerns.
    too_large = isinstance(value, Integral) and int(value) > most
    check_whole(name, value, error=QueryError, least=least, most=most if least < 0 or too_large else None)


def _check_unit(name: str, value: Any) -> None:
    if value is not None:
        check_number(name, value, error=QueryError, most=1.0)
