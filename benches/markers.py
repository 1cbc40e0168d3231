"""Tables in a page, between ``<!-- table: NAME -->`` and ``<!-- end of table -->``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TABLE = re.compile(r"<!-- table: (?P<name>\w+) -->\n.*?<!-- end of table -->", re.DOTALL)


def fill(page: str, made: Callable[[str], str | None]) -> tuple[str, list[str]]:
    """Put what `made` gives for a name in place of the table, unless that is None; return also the names."""
    filled = []

    def table(found: re.Match[str]) -> str:
        name = found["name"]
        text = made(name)
        if text is None:
            return found[0]
        filled.append(name)
        return f"<!-- table: {name} -->\n{text}\n<!-- end of table -->"

    return _TABLE.sub(table, page), filled
