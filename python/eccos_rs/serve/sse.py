"""Server-sent events by lines, as the HTML standard says: `event:`, `id:`, comments, any line end."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

__all__ = ["Event", "EventReader", "parse_event"]

_BOUNDARY = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")

_LONGEST = 2**24
"""Bytes of an event that are waited for; more are passed on unread."""


class Event(NamedTuple):
    """One event: its bytes as they came, its name (empty for none) and its data (None: a comment alone)."""

    raw: bytes
    name: str
    data: bytes | None

    def json(self) -> Any:
        """Return the data as JSON; None where it is none."""
        if self.data is None:
            return None
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError):
            return None


class EventReader:
    """Cuts a stream of bytes into the events that it is made of, each with its own bytes."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the events that are complete now, as they came."""
        text = self._pending + chunk
        if b"\r" not in text:
            *whole, self._pending = text.split(b"\n\n")
            events = [part + b"\n\n" for part in whole]
        else:
            events, at = [], 0
            for found in _BOUNDARY.finditer(text):
                events.append(text[at : found.end()])
                at = found.end()
            self._pending = text[at:]
        if len(self._pending) > _LONGEST:
            events.append(self._pending)
            self._pending = b""
        return events

    def rest(self) -> bytes:
        """Return what came after the last complete event."""
        rest, self._pending = self._pending, b""
        return rest


def parse_event(raw: bytes) -> Event:
    """Read the lines of one event."""
    name, data = "", []
    for line in raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        field, colon, value = line.partition(b":")
        if not field and colon:
            continue  # a comment
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return Event(raw, name, b"\n".join(data) if data else None)
