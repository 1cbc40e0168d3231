"""Grading: from an answer's text to a quality in [0, 1]."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eccos_rs.records.collect.numbers import numbers_in, parse_number
from eccos_rs.records.collect.task import LETTERS
from eccos_rs.records.grouping import normalise

if TYPE_CHECKING:
    from eccos_rs.records.collect.task import Task

__all__ = ["grade", "judged_score"]

# An answer is looked for where it was asked for ("Answer: ..."), then where models like to put it.
MARKED = re.compile(r"(?:^|\n|\*\*)\s*(?:final\s+)?answer\s*\**\s*[:=]\s*\**\s*([^\n]+)", re.IGNORECASE)
BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
HASHED = re.compile(r"####\s*([^\n]+)")
SAID = re.compile(r"answer\s+is\s*:?\s*\**\s*([^\n]+)", re.IGNORECASE)
SCORE = re.compile(r"(?:score|grade|rating)\s*\**\s*(?:[:=]|is|of)\s*\**\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
OF_TEN = re.compile(r"(\d+(?:\.\d+)?)\s*\**\s*(?:/|out of)\s*10\b", re.IGNORECASE)
"""How a judge that answers in prose says it: "I would give this a 7 out of 10"."""
BEST_SCORE = 10.0


def grade(task: Task, text: str) -> float:
    r"""Grade an answer to a task that needs no judge.

    Parameters
    ----------
    task : Task
        Any kind but `free`.
    text : str
        The model's whole answer; an empty one is wrong.

    Returns
    -------
    float
        1.0 right, 0.0 wrong.

    Examples
    --------
    >>> from eccos_rs.records.collect.task import Task
    >>> grade(Task("2 + 3 = ?", "numeric", ("5",)), "2 and 3 make 5.0.\\nAnswer: 5.0")
    1.0
    """
    if task.kind == "multiple_choice":
        return float(_chosen(text, task.choices) == task.answers[0])
    if task.kind == "numeric":
        got, wanted = _stated_number(text), parse_number(task.answers[0])
        if got is None or wanted is None:
            return 0.0
        return float(abs(got - wanted) <= task.tolerance * max(abs(wanted), 1e-9))
    stated = {_plain(part) for part in (*_stated(text), text)}
    return float(any(_plain(answer) in stated for answer in task.answers))


def judged_score(text: str) -> float | None:
    """Return the quality in a judge's reply ("Score: 7" of 10 is 0.7), or None when there is none."""
    bare = re.findall(r"^\s*\**(\d+(?:\.\d+)?)\**\s*$", text)
    found = SCORE.findall(text) or OF_TEN.findall(text) or bare
    if not found:
        return None
    score = float(found[-1])
    return score / BEST_SCORE if score <= BEST_SCORE else None


def _stated(text: str) -> list[str]:
    """Return where the answer may stand, the likeliest first; of each kind of mark the last one counts."""
    found = (pattern.findall(text) for pattern in (MARKED, BOXED, HASHED, SAID))
    return [hits[-1].strip() for hits in found if hits]


def _stated_number(text: str) -> float | None:
    for part in _stated(text):
        # "Answer: 5 apples, 2 each" states its first number, "Answer: 2 + 3 = 5" the one behind the sign.
        numbers = numbers_in(part.rsplit("=", 1)[-1])
        if numbers:
            return numbers[0]
    return parse_number(text)


def _chosen(text: str, choices: tuple[str, ...]) -> str | None:
    letters = LETTERS[: len(choices)]
    for part in _stated(text):
        letter = re.match(rf"[\s(\[{{*\"'`]*(?:option\s+|choice\s+)?[(\[]?([{letters}])(?![\w'])", part)
        if letter:
            return letter.group(1)
        plain = [index for index, choice in enumerate(choices) if _plain(choice) == _plain(part)]
        if len(plain) == 1:
            return letters[plain[0]]
    bare = re.fullmatch(rf"[\s(\[*]*([{letters}])[\s.):\]*]*", text.strip())
    if bare:
        return bare.group(1)
    leading = re.match(rf"\s*\(?([{letters}])[).:](?=\s|$)", text)
    if leading:
        return leading.group(1)
    bracketed = re.findall(rf"\(([{letters}])\)", text)
    return bracketed[-1] if bracketed else None


def _plain(text: str) -> str:
    return re.sub(r"^(?:a|an|the) ", "", normalise(text.strip().rstrip(".")))
