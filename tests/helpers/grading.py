"""Endpoints of a small world for `eccos start`: models that are right by rule, and a judge."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from tests.helpers.endpoints import Handler, Request, pool_toml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = {
    "sum": "What is the sum of {a} and {b}? Show every step of the addition.",
    "law": "Which court decides case {a} about contracts of {b} tenants, and under what doctrine?",
    "poem": "Write a story of the river number {a} and the garden number {b}.",
}
PRICES = {"small": (0.1, 0.4), "large": (3.0, 15.0)}


def question(number: int) -> str:
    """Return a question; its kind is the remainder of its number."""
    kind = list(KINDS)[number % len(KINDS)]
    return KINDS[kind].format(a=number, b=7 + number % 13)


def is_right(model: str, text: str) -> bool:
    """Say whether a model answers well: the small one never knows the law, the large one nearly always."""
    lot = zlib.crc32(f"{model} {text}".encode()) % 100
    if model == "large":
        return lot < 92
    return "court" not in text and lot < 90


def answering(handler: Handler, request: Request) -> None:
    """Answer as a model does, or grade as the judge does: by the words of the answer, a point off at most."""
    text = request.body["messages"][-1]["content"]
    if request.body["model"] == "judge":
        good = "[Answer to grade]\nright" in text
        handler.answer(f"Score: {(9 if good else 1) + request.number % 2}", completion_tokens=4)
        return
    asked = next(m["content"] for m in reversed(request.body["messages"]) if m["role"] == "user")
    right = is_right(request.body["model"], asked)
    handler.answer("right" if right else "wrong", prompt_tokens=40, completion_tokens=60)


def log_file(path: Path, count: int, **more: Any) -> Path:
    """Write a log of chat bodies, all answered by the large model today."""
    rows = (
        {"model": "large", "messages": [{"role": "user", "content": question(number)}], **more}
        for number in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pool_file(path: Path, url: str, names: tuple[str, ...] = ("small", "large"), **more: Any) -> Path:
    """Write a pool of these models with scores, so that a prior knows them apart."""
    models = []
    for name in names:
        prices = PRICES.get(name, (1.0, 4.0))
        models.append({"name": name, "url": url, "input_price": prices[0], "output_price": prices[1], **more})
    return pool_toml(path, *models)


def judge_file(path: Path, url: str) -> Path:
    """Write a pool file with the judge alone."""
    return pool_toml(path, {"name": "judge", "url": url, "input_price": 0.5, "output_price": 1.0})


def behave(**by_model: Callable[[Handler, Request], None]) -> Callable[[Handler, Request], None]:
    """Answer as `answering`, but these models in their own way."""

    def behaviour(handler: Handler, request: Request) -> None:
        by_model.get(request.body["model"], answering)(handler, request)

    return behaviour
