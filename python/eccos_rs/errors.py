"""The exception tree: everything this package raises on purpose is an `EccosError`."""

from __future__ import annotations

__all__ = [
    "BundleError",
    "DeviceError",
    "EccosError",
    "InputError",
    "InternalError",
    "MissingExtraError",
    "NoModelError",
    "Overloaded",
    "PolicyError",
    "PoolError",
    "ProblemError",
    "QueryError",
    "RecordError",
    "StoreError",
]


class EccosError(Exception):
    """The root: catch this to catch all that this package raises on purpose."""


class InputError(EccosError, ValueError):
    """Something that was passed in is malformed; the sentence says what was got and what was wanted."""


class ProblemError(InputError):
    """An array or a number given to the solver is malformed."""


class PoolError(InputError):
    """A pool or one of its models is malformed, or names a model nobody knows."""


class PolicyError(InputError):
    """A policy contradicts itself or leaves its range."""


class QueryError(InputError):
    """A query is malformed."""


class NoModelError(QueryError):
    """No model of the pool may take a query; the sentence names the query and the reason."""


class RecordError(InputError):
    """A data set is malformed; the sentence names the row and the column."""


class BundleError(EccosError):
    """A bundle is missing, truncated, altered or of a newer schema."""


class DeviceError(EccosError, RuntimeError):
    """The device that was asked for cannot be had."""


class InternalError(EccosError, RuntimeError):
    """A defect of the package itself: a panic of its compiled half. The call is lost, the process goes on."""


class MissingExtraError(EccosError, ImportError):
    """An optional dependency is not installed; the sentence names the line that installs it."""


class StoreError(EccosError):
    """The online store cannot be read or written."""


class Overloaded(EccosError):  # noqa: N818 - a state of the pool, not a mistake
    """Nothing fits now.

    Attributes
    ----------
    retry_after : float | None
        Seconds until it may fit, when that is known.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
