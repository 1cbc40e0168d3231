"""Remembers what the encoder said of a text: real traffic repeats, and the encoder is nearly all the time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import TYPE_CHECKING, Generic, TypeVar

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TextCache"]

T = TypeVar("T")


class TextCache(Generic[T]):
    """A bounded, thread-safe map from exact texts to values; the least recently used goes first.

    Parameters
    ----------
    size : int
        The most entries kept; 0 keeps none.
    salt : str
        What the values depend on besides the text, such as a bundle's digest: another salt, another key.

    Notes
    -----
    A text is kept as a 16-byte BLAKE2 digest, so an entry costs the same for a long text as for a short one.
    """

    def __init__(self, size: int, salt: str) -> None:
        if size < 0:
            raise InputError(f"cache_size: got {size}, wanted 0 or more")
        self._size = size
        self._salt = blake2b(salt.encode(), digest_size=16).digest()
        self._entries: OrderedDict[bytes, T] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def enabled(self) -> bool:
        """Whether anything is kept at all."""
        return self._size > 0

    def key(self, text: str) -> bytes:
        """Return the key of a text; any `str` has one."""
        return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._salt).digest()

    def get_many(self, keys: Sequence[bytes]) -> list[T | None]:
        """Return the value of each key, None where it is not known."""
        with self._lock:
            found = [self._entries.get(key) for key in keys]
            for key, value in zip(keys, found, strict=True):
                if value is not None:
                    self._entries.move_to_end(key)
            hits = sum(value is not None for value in found)
            self.hits += hits
            self.misses += len(keys) - hits
        return found

    def put_many(self, keys: Sequence[bytes], values: Sequence[T]) -> None:
        """Keep values under their keys and drop the least recently used ones beyond the size."""
        if not self.enabled:
            return
        with self._lock:
            for key, value in zip(keys, values, strict=True):
                self._entries[key] = value
                self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
