"""Where two prompts begin alike: what a cache holds of a turn is told by its text, not by a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from eccos_rs.domain.query import Query

__all__ = ["Prefix"]

_BLOCK = 1024
"""Characters between two marks within a text."""

_MOST_MARKS = 16
"""Marks that are kept of a prompt which was answered: conversations are many."""

_MOVES = frozenset({"cache_control"})
"""Members of a message that come and go from turn to turn and are no part of what is cached."""


class Prefix:
    """Marks along a prompt, each of everything up to it.

    Parameters
    ----------
    ends : dict of int to int
        Characters up to each mark, in rising order.
    """

    __slots__ = ("_ends",)

    def __init__(self, ends: dict[int, int]) -> None:
        self._ends = ends

    @classmethod
    def of(cls, query: Query) -> Prefix:
        """Mark a query's prompt: its tools (by their size), then message by message."""
        mark, end = hash(query.extra_input_tokens), 0
        ends: dict[int, int] = {}
        messages = ({"role": "user", "content": query.text},) if query.messages is None else query.messages
        for message in messages:
            for piece in _pieces(message):
                mark = hash((mark, piece))
                end += len(piece)
                ends[mark] = end
        return cls(ends)

    @property
    def marks(self) -> tuple[int, ...]:
        """The marks, from the beginning on."""
        return tuple(self._ends)

    def share_until(self, known: Callable[[int], bool]) -> float:
        """Return the share of the prompt, by characters, up to its last mark that is known."""
        total = 0
        for mark, end in reversed(self._ends.items()):
            total = total or end
            if known(mark):
                return end / total if total else 1.0
        return 0.0

    def kept(self) -> Prefix:
        """Return it with few marks: most conversations part near their end, if at all."""
        marks = list(self._ends.items())
        if len(marks) <= _MOST_MARKS:
            return self
        half = _MOST_MARKS // 2
        early, late = marks[:-half], marks[-half:]
        return Prefix(dict([*early[:: -(-len(early) // half)], *late]))

    def share_in(self, prompt: Prefix) -> float:
        """Return the share of this prompt, by characters, that another begins with; 1: goes on from it."""
        return self.share_until(prompt._ends.__contains__)


def _pieces(message: Mapping[str, Any]) -> Iterator[str]:
    yield str(message.get("role"))
    yield from _leaves(message.get("content"))
    for name in ("tool_calls", "tool_call_id", "name"):
        yield from _leaves(message.get(name))


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts of a part of a message; a part that is a text alone is the same as the text."""
    if isinstance(value, str):
        for start in range(0, len(value), _BLOCK):
            yield value[start : start + _BLOCK]
    elif isinstance(value, dict):
        if value.get("type") in ("text", "input_text") and isinstance(value.get("text"), str):
            yield from _leaves(value["text"])
            return
        for name, inner in value.items():
            if name not in _MOVES:
                yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield repr(value)
