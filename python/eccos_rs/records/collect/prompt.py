"""What is sent: zero-shot prompts that ask for an answer where the grader looks for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eccos_rs.records.collect.task import Task

__all__ = ["PROMPT_VERSION", "judge_messages", "task_messages"]

# Stands in every journal: answers to another wording are not mixed in.
PROMPT_VERSION = 1

ENDINGS = {
    "multiple_choice": 'Think it through, then end with a line "Answer: " and the letter of your option.',
    "numeric": 'Think it through, then end with a line "Answer: " and the number alone.',
    "exact": 'End with a line "Answer: " and the answer alone, as short as it can be.',
    "free": "",
}

JUDGE = """You grade an answer. Be strict: one that is wrong in substance gets 0 to 3, one that is right but \
incomplete 4 to 7, one that is right and complete 8 to 10. Length and style do not count.

[Question]
{query}

{reference}[Answer to grade]
{answer}

[Your grade]
Reply with one line only: "Score: " and a whole number from 0 to 10."""


def task_messages(task: Task) -> list[dict[str, Any]]:
    """Return the chat that asks a task."""
    ending = ENDINGS[task.kind]
    return task.chat(f"\n\n{ending}" if ending else "")


def counted_messages(messages: list[dict[str, Any]], fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a chat with what is sent beside it as one more message, so that its tokens are counted."""
    if not fields:
        return messages
    return [*messages, {"role": "system", "content": json.dumps(dict(fields), ensure_ascii=False)}]


def judge_messages(task: Task, answer: str) -> list[dict[str, Any]]:
    """Return the chat that asks a judge to grade an answer."""
    reference = f"[Reference answer]\n{' / '.join(task.answers)}\n\n" if task.answers else ""
    text = JUDGE.format(query=task.text, reference=reference, answer=answer or "(nothing)")
    return [{"role": "user", "content": text}]
