"""Times as logs write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from eccos_rs.domain.validation import is_number

__all__ = ["parse_time"]

_MILLISECONDS, _NANOSECONDS = 1e11, 1e17
"""Numbers above these count milliseconds and nanoseconds: as seconds they lie beyond the year 5000."""


def parse_time(value: Any) -> float | None:
    """Return seconds since 1970; None for what is no time.

    Parameters
    ----------
    value : object
        A number of seconds, milliseconds or nanoseconds, a `datetime`, or a text of ISO 8601; without a
        zone it is UTC.

    Examples
    --------
    >>> parse_time("2026-01-01T00:00:10Z") == parse_time(1767225610) == parse_time("1767225610000")
    True
    >>> parse_time("yesterday") is None
    True
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                return None
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()
    if not is_number(value) or value <= 0:
        return None
    scale = 1e9 if value > _NANOSECONDS else 1e3 if value > _MILLISECONDS else 1.0
    return float(value) / scale
