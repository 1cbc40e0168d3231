"""The one look of every table that a command prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["light_table"]


def light_table(title: str | None = None, **settings: Any) -> Table:
    """Make a table with a rule below its head and no other lines.

    Parameters
    ----------
    title : str, optional
        Stands above, on the left.
    **settings
        Of `rich.table.Table`, in place of the look.

    Returns
    -------
    rich.table.Table
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    look = {"box": SIMPLE_HEAD, "title_justify": "left", "caption_justify": "left", "pad_edge": False}
    return Table(title=title, **{**look, **settings})
