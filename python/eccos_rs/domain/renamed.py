"""Old names of what was renamed: they work, and say what to write instead."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["attribute", "moved", "renamed"]


def renamed(module: str, name: str, old: Mapping[str, Any]) -> Any:
    """Look up an old name for a module's ``__getattr__``.

    Parameters
    ----------
    module, name : str
        Where, and what was asked for.
    old : mapping of str to object
        Old name to what it stands for.

    Raises
    ------
    AttributeError
        It is no old name either.
    """
    if name not in old:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(
        f"{module}.{name} is deprecated: use {old[name].__name__}", DeprecationWarning, stacklevel=3
    )
    return old[name]


def moved(home: str, name: str) -> Callable[..., Any]:
    """Return a method that became the function `name` of the module `home`: it works, and says so."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        owner = type(self).__name__
        warnings.warn(
            f"a method of {owner} is deprecated: use {home}.{name}({owner.lower()}, ...)",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(import_module(home), name)(self, *args, **kwargs)

    call.__name__ = name
    call.__doc__ = f"Deprecated: use `{home}.{name}`."
    return call


def attribute(old: str, new: str, values: Mapping[Any, Any] | None = None) -> property:
    """Return a property that reads `new` under its old name, with its old values, and says so."""

    def read(self: Any) -> Any:
        owner = type(self).__name__
        warnings.warn(f"{owner}.{old} is deprecated: use {owner}.{new}", DeprecationWarning, stacklevel=2)
        value = getattr(self, new)
        return value if values is None else values[value]

    return property(read, doc=f"Deprecated: use `{new}`.")
