"""An endpoint over real HTTP that counts tokens in a sliding minute, as short as a test wants it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.helpers.endpoints import Handler, Request


@dataclass
class Minutes:
    """How a server answers, and what it counted: when each call came, when it was answered, its tokens.

    `longest` bounds the tokens of an answer, whatever was asked for; one answer in ten is as long.
    """

    longest: int = 200
    seconds: float = 0.05
    text: str = "yes"
    calls: list[tuple[float, float, int, str]] = field(default_factory=list)
    draw: random.Random = field(default_factory=lambda: random.Random(4))

    def __call__(self, handler: Handler, request: Request) -> None:
        most = min(self.longest, request.body.get("max_tokens", self.longest))
        given = most if self.draw.random() < 0.1 else self.draw.randint(1, most // 4)
        asked = 10 + len(request.body["messages"][0]["content"]) // 4
        time.sleep(self.draw.uniform(0, 2 * self.seconds))
        # Counted before the bytes leave: a client that is gone has been served all the same.
        self.calls.append((request.at, time.monotonic(), asked + given, request.body["model"]))
        handler.answer(self.text, prompt_tokens=asked, completion_tokens=given)

    def most_within(self, span: float, *models: str, at: int) -> int:
        """Return the most tokens in any span, of calls counted when they came (0) or were answered (1)."""
        calls = sorted((call[at], call[2]) for call in self.calls if not models or call[3] in models)
        most = first = held = 0
        for when, tokens in calls:
            held += tokens
            while calls[first][0] <= when - span:
                held -= calls[first][1]
                first += 1
            most = max(most, held)
        return most
