"""A request's body: read as JSON, and sent on with a few members changed and every other byte as it came."""

from __future__ import annotations

import json
import math
import re
from json.decoder import scanstring  # type: ignore[attr-defined]  # the reader of strings that json itself uses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["REMOVED", "JsonBody", "parse_body"]

REMOVED = object()
"""In place of a changed value: the member is taken out."""

_SPACE = re.compile(r"[ \t\n\r]*")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is beyond what JSON readers hold")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")  # Python's own reader takes it


_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    parse_float=_finite, parse_constant=_no_number
).scan_once  # type: ignore[attr-defined]


class JsonBody:
    """A JSON object with the text that it was read from.

    Attributes
    ----------
    values : dict
        Members by name; of a name that is there twice, the last.
    """

    def __init__(
        self, values: dict[str, Any], text: str, spans: list[tuple[str, int, int]], end: int
    ) -> None:
        self.values = values
        self._text = text
        self._spans = spans
        self._end = end

    def __len__(self) -> int:
        return len(self._text)

    def edited(self, changes: Mapping[str, Any]) -> bytes:
        """Return the body with members set to other values; all else stays byte for byte.

        Parameters
        ----------
        changes : mapping of str to JSON value
            `REMOVED` takes a member out (the body is then written anew).
        """
        if any(value is REMOVED for value in changes.values()):
            kept = {**self.values, **changes}
            return encode({name: value for name, value in kept.items() if value is not REMOVED})
        pieces, at = [], 0
        missing = dict(changes)
        for name, start, end in self._spans:
            if name in changes:
                missing.pop(name, None)
                pieces += [self._text[at:start], _dumps(changes[name])]
                at = end
        pieces.append(self._text[at : self._end])
        added = ",".join(f"{_dumps(name)}:{_dumps(value)}" for name, value in missing.items())
        if added:
            pieces.append(f",{added}" if self._spans else added)
        pieces.append(self._text[self._end :])
        return "".join(pieces).encode("utf-8", "surrogatepass")


def encode(content: Any) -> bytes:
    """Return a JSON value as bytes."""
    return _dumps(content).encode("utf-8", "surrogatepass")


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def parse_body(raw: bytes) -> JsonBody:
    """Read a JSON object.

    Raises
    ------
    ValueError
        It is not one; the message ends a sentence that begins with "the body".
    """
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass")
        at = _skip(text, 0)
        if text[at : at + 1] != "{":
            value = _value(text, at)[0]
            raise TypeError(f"must be a JSON object, got {type(value).__name__}")
        values, spans, end = _members(text, at + 1)
        if _skip(text, end + 1) != len(text):
            raise ValueError("something follows the object")
    except TypeError as error:
        raise ValueError(str(error)) from None
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or str(error) or type(error).__name__
        raise ValueError(f"is not JSON: {reason}") from error
    return JsonBody(values, text, spans, end)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _scan(text, at)
    except StopIteration:
        raise ValueError("a value is missing") from None


def _members(text: str, at: int) -> tuple[dict[str, Any], list[tuple[str, int, int]], int]:
    """Read the members of an object behind its brace; return them, the spans of their values, and its end."""
    values: dict[str, Any] = {}
    spans: list[tuple[str, int, int]] = []
    at = _skip(text, at)
    if text[at : at + 1] == "}":
        return values, spans, at
    while True:
        if text[at : at + 1] != '"':
            raise ValueError("a member's name in double quotes is missing")
        name, at = scanstring(text, at + 1, True)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise ValueError("a colon is missing")
        start = _skip(text, at + 1)
        values[name], end = _value(text, start)
        spans.append((name, start, end))
        at = _skip(text, end)
        if text[at : at + 1] == "}":
            return values, spans, at
        if text[at : at + 1] != ",":
            raise ValueError("a comma is missing")
        at = _skip(text, at + 1)
