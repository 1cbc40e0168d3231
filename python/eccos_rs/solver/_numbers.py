"""Arrays of plain dtypes and shapes; everything else is refused with a sentence that names the argument."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import ProblemError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Array = np.ndarray[Any, np.dtype[Any]]

_SINGLE = np.dtype(np.float32)
_DOUBLE = np.dtype(np.float64)
_BOOL = np.dtype(np.bool_)
_PLAIN = 0x101  # numpy's flags C_CONTIGUOUS | ALIGNED: what the core can borrow as it lies


def _array(name: str, value: object, wanted: str) -> Array:
    """Make an array of numbers of any array-like."""
    # numpy.ma takes 20 ms to import, and without it there are no masked arrays.
    masked = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(value, masked.MaskedArray):
        raise ProblemError(f"{name} is a masked array; wanted a plain one, with the mask in allowed")
    try:
        array = np.asarray(value)
    except Exception as error:  # an object's own conversion may raise anything
        raise ProblemError(f"{name} is no array: {error}; wanted {wanted}") from error
    if array.dtype.kind not in "fiub":
        raise ProblemError(f"{name} has dtype {array.dtype}, wanted {wanted}")
    return array


def real(name: str, value: object, wanted: str = "real numbers") -> Array:
    """Make a C-contiguous array: float32 and float64 as they are, float16 as float32, the rest as float64."""
    array = value if type(value) is np.ndarray else _array(name, value, wanted)
    kind = array.dtype
    # Equal, not the same: an array that was pickled has a dtype object of its own.
    if kind not in (_SINGLE, _DOUBLE):
        array = _array(name, array, wanted)
        array = array.astype(_SINGLE if kind == np.float16 else _DOUBLE)
    return array if array.flags.num & _PLAIN == _PLAIN else array.copy()


def double(name: str, value: object, wanted: str = "real numbers") -> NDArray[np.float64]:
    """Make the same in float64 always: for what is small."""
    array = real(name, value, wanted)
    return array if array.dtype == _DOUBLE else array.astype(_DOUBLE)


def whole(name: str, value: object, dtype: type[np.integer[Any]]) -> Array:
    """Make integers of one dtype; refuse fractions and what does not fit."""
    array = _array(name, value, "whole numbers")
    if array.dtype.kind == "f":
        raise ProblemError(f"{name} has dtype {array.dtype}, wanted whole numbers")
    if array.dtype != dtype:
        limits = np.iinfo(dtype)
        outside = np.flatnonzero((array < limits.min) | (array > limits.max))
        if outside.size:
            at = int(outside[0])
            raise ProblemError(f"{name}[{at}] is {array.ravel()[at]}, wanted {limits.min} to {limits.max}")
    return np.ascontiguousarray(array, dtype)


def shaped(name: str, array: Array, shape: tuple[int, ...], words: str) -> None:
    """Refuse another shape."""
    if array.shape != shape:
        raise ProblemError(f"{name} has shape {array.shape}, wanted {shape} ({words})")


def flags(name: str, value: ArrayLike, shape: tuple[int, ...], words: str) -> NDArray[np.uint8]:
    """Make a mask as bytes of 0 and 1; refuse what is not boolean."""
    array = value if type(value) is np.ndarray else _array(name, value, "booleans")
    if array.dtype != _BOOL:
        raise ProblemError(f"{name} has dtype {array.dtype}, wanted booleans")
    shaped(name, array, shape, words)
    if array.flags.num & _PLAIN != _PLAIN:
        array = array.copy()
    return array.view(np.uint8)
