"""What calls of earlier runs took within the last minute: a run that goes on stays within the same limits."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eccos_rs.domain import window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.records.collect.endpoint import Caller

__all__ = ["EarlierCalls", "stamp"]


def stamp(tokens: int) -> dict[str, Any]:
    """Return what an event of the journal says for the limits: when it was, and the tokens held or used."""
    return {"at": round(time.time(), 3), "tokens": tokens}


@dataclass(slots=True)
class EarlierCalls:
    """Calls by the events of a journal, which `apply` takes in their order."""

    _ended: deque[tuple[float, str, int]] = field(default_factory=deque)
    _open: dict[str, tuple[str, int]] = field(default_factory=dict)

    def apply(self, event: Mapping[str, Any]) -> None:
        """Take in one event; those of releases that stated no times are left aside."""
        name = str(event.get("call") or event.get("row"))
        if "at" not in event:
            self._open.pop(name, None)
        elif event.get("event") == "asked":
            self._open[name] = str(event["model"]), int(event["tokens"])
        elif name in self._open:
            at, model = float(event["at"]), self._open.pop(name)[0]
            self._ended.append((at, model, int(event["tokens"])))
            while self._ended[0][0] < at - 2 * window.MINUTE:
                self._ended.popleft()

    def cut_off(self, name: str) -> dict[str, Any]:
        """Return the stamp of a call that a kill cut off: it ends now, and may have taken the most."""
        return stamp(self._open[name][1]) if name in self._open else {}

    def count(self, callers: Mapping[str, Caller]) -> None:
        """Count them with who is to be asked; those that a kill cut off as if they ended now."""
        now = time.time()
        for at, model, tokens in self._ended:
            if model in callers and (ago := max(now - at, 0.0)) < 2 * window.MINUTE:
                callers[model].count(tokens, ago)
        for model, tokens in self._open.values():
            if model in callers:
                callers[model].count(tokens, 0.0)
