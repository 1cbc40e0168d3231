"""Checks of what a client sends, in the client's own words: a malformed member is a 400 that names it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eccos_rs.dialects.events import RequestError
from eccos_rs.domain.query import LARGEST
from eccos_rs.domain.validation import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MOST_CHOICES", "flag", "listing", "mapping", "text", "whole"]

MOST_CHOICES = 128
"""Answers that one request may ask for."""


def _refused(name: str, wanted: str, value: Any) -> RequestError:
    return RequestError(400, "invalid_request", f"{name} must be {wanted}, got {shown(value)}", param=name)


def whole(
    values: Mapping[str, Any], name: str, *, least: int = 1, most: int = LARGEST, optional: bool = True
) -> int | None:
    """Return a whole number of a request; None where it is null or not there."""
    value = values.get(name)
    if value is None and optional:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        wanted = (
            f"a whole number of at least {least}"
            if most == LARGEST
            else f"a whole number in [{least}, {most}]"
        )
        raise _refused(name, wanted, value)
    return value


def flag(values: Mapping[str, Any], name: str) -> bool:
    """Return a truth value of a request; False where it is null or not there."""
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise _refused(name, "true or false", value)
    return bool(value)


def mapping(values: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return an object of a request."""
    value = values.get(name)
    if value is not None and not isinstance(value, dict):
        raise _refused(name, "an object", value)
    return value


def listing(values: Mapping[str, Any], name: str) -> list[dict[str, Any]] | None:
    """Return a list of objects of a request."""
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise _refused(name, "a list of objects", value)
    return value


def text(values: Mapping[str, Any], name: str) -> str | None:
    """Return a text of a request; one that is no text counts as none given."""
    value = values.get(name)
    return value if isinstance(value, str) and value else None
