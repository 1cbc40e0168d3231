"""Checks of what users hand over: numbers, choices, and names that were nearly right.

Every message has one form: ``X must …, got …``. The caller names the error to raise, so that a bad pool
is a `PoolError` and a bad query a `QueryError`.
"""

from __future__ import annotations

import math
from difflib import get_close_matches
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eccos_rs.errors import EccosError

__all__ = [
    "check_choice",
    "check_number",
    "check_whole",
    "did_you_mean",
    "is_number",
    "nearest_name",
    "shown",
]

_SHOWN = 60
"""Characters of a bad value that a message repeats: it may be a whole prompt, or a number of 400 digits."""


def is_number(value: Any) -> bool:
    """Whether a value is a finite real number; bools are not."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond the range of floats
        return False


def check_number(
    name: str,
    value: Any,
    *,
    error: type[EccosError],
    least: float = 0.0,
    most: float = math.inf,
    above: bool = False,
    wanted: str | None = None,
) -> float:
    """Return a finite number within limits as a float.

    Parameters
    ----------
    name : str
        The argument, as the user wrote it.
    value : object
        What was got.
    error : type
        What to raise.
    least, most : float
        The limits, themselves allowed.
    above : bool
        Whether `least` itself is refused.
    wanted : str, optional
        The end of ``X must …``, in place of one made from the limits.

    Raises
    ------
    EccosError
        Of the type `error`: not a number, not finite, or outside the limits.
    """
    if not is_number(value) or not least <= value <= most or (above and value == least):
        raise error(f"{name} must {wanted or _limits_in_words(least, most, above)}, got {shown(value)}")
    return float(value)


def check_whole(
    name: str, value: Any, *, error: type[EccosError], least: int | None = None, most: int | None = None
) -> int:
    """Return an int within limits.

    Raises
    ------
    EccosError
        Of the type `error`: not an int (a bool is none), or outside the limits.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or (least is not None and value < least) or (most is not None and value > most):
        wanted = "be an int" if least is None else f"be an int of at least {least}"
        if most is not None:
            wanted = (
                f"be an int in [{least}, {most}]" if least is not None else f"be an int of at most {most}"
            )
        raise error(f"{name} must {wanted}, got {shown(value)}")
    return int(value)


def check_choice(name: str, value: Any, choices: Sequence[str], *, error: type[EccosError]) -> None:
    """Raise unless a value is one of a few words."""
    if value not in choices:
        raise error(f"{name} must be one of {', '.join(choices)}; got {shown(value)}")


def nearest_name(word: object, known: Iterable[object], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that a misspelt one probably meant, or None."""
    near = get_close_matches(str(word), [str(name) for name in known], n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: object, known: Iterable[object], *, otherwise: str = "known are") -> str:
    """Return the end of a message about an unknown name: the near one, or all there are.

    Examples
    --------
    >>> did_you_mean("gpt4o", ["gpt-4o", "o3"])
    "; did you mean 'gpt-4o'?"
    >>> did_you_mean("llama", ["gpt-4o", "o3"])
    '; known are gpt-4o, o3'
    """
    names = [str(name) for name in known]
    near = nearest_name(word, names)
    return f"; did you mean {near!r}?" if near is not None else f"; {otherwise} {', '.join(names)}"


def shown(value: Any) -> str:
    """Return a bad value for a message: short, whatever it is."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        return f"an int of {value.bit_length()} bits"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _limits_in_words(least: float, most: float, above: bool) -> str:
    if most < math.inf:
        return f"lie in {'(' if above else '['}{least:g}, {most:g}]"
    return f"be a finite number {'greater than' if above else 'of at least'} {least:g}"
