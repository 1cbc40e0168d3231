"""Queries for timing: of our own writing, each made distinct so that no cache answers for the encoder."""

from __future__ import annotations

from itertools import cycle, islice

__all__ = ["sample_queries"]

_SHORT = (
    "What is {n} times 17?",
    "Name a river in Europe that is longer than {n} kilometres.",
    "Hello! Can you help me with task {n}?",
    "Convert {n} miles to kilometres.",
    "Who was born in the year {n}?",
    "Translate 'I have {n} apples' into French.",
)

_MIDDLE = (
    "A shop sells pens at {n} cents and notebooks at three times that price. Mira buys four pens and "
    "two notebooks and pays with a ten euro note. How much change does she get, and how many more "
    "pens could she have bought with it?",
    "Let f(x) = x^3 - {n}x + 2. Find all real numbers a for which the tangent of the graph at x = a "
    "passes through the origin, and show that there are no others.",
    "A gas expands at constant temperature from {n} litres to three times that volume while it takes "
    "up heat. Which of these holds for its entropy?\n"
    "A. It falls\n"
    "B. It stays\n"
    "C. It rises by nR ln 3\n"
    "D. It rises by nR ln 2\n"
    "E. It cannot be told",
    "Write a Python function that takes a list of at most {n} dictionaries with the keys name, start "
    "and end, and returns the largest number of meetings that overlap at any time. State its running "
    "time.",
    "Under the rule of perpetuities, is a gift 'to the first of my grandchildren who reaches the age "
    "of {n}' valid when the testator leaves two children? Give the reason in one paragraph.",
)

_LONG = (
    "Below are the minutes of meeting {n} of a housing cooperative. Summarise them for a member who "
    "was away, then list each decision with who has to act and by when.\n"
    "\n"
    "The chair opened the meeting at seven with eleven members present. The minutes of the last "
    "meeting were accepted with one change: the repair of the stairs was ordered in May, not in "
    "March. The treasurer reported that rents were paid in full but for two flats, that the reserve "
    "stands at forty thousand, and that the price of heating has risen by a fifth since the autumn. "
    "A member asked whether the old boiler should be replaced before winter. The chair answered that "
    "three offers had been asked for and that two had come in: one for a gas boiler at eighteen "
    "thousand, one for a heat pump at thirty-four thousand, of which the state pays ten. After a "
    "long talk it was decided to wait for the third offer until the end of the month and to call a "
    "meeting in the first week after it. The garden group asked for two hundred for tools and got "
    "it. The bicycles in the yard that nobody has claimed will be given away on the first Saturday "
    "of next month; a notice goes up tomorrow. The lift was out of order for nine days; the "
    "treasurer will write to the firm and ask for a part of the fee back. The meeting closed at ten "
    "past nine.",
)


def sample_queries(count: int, *, first: int = 0) -> list[str]:
    """Return distinct texts: half short (about 10 tokens), most others middling (60), one in twelve long.

    Parameters
    ----------
    count : int
        How many.
    first : int
        The number of the first; other numbers give other texts.
    """
    twelve = (*_SHORT, *_MIDDLE, *_LONG)
    return [text.format(n=first + at) for at, text in enumerate(islice(cycle(twelve), count))]
