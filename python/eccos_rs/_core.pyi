from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from eccos_rs.solver._arrays import Arrays, Effort

_Floats: TypeAlias = NDArray[np.float64]
_Singles: TypeAlias = NDArray[np.float32]

__all__ = [
    "LOAD_TOLERANCE",
    "REQUIREMENT_TOLERANCE",
    "Forecaster",
    "Vectors",
    "WordPieces",
    "__version__",
    "assign",
    "frontier",
    "neighbour_sums",
]

__version__: str
REQUIREMENT_TOLERANCE: float
LOAD_TOLERANCE: float

def assign(problem: Arrays, effort: Effort, alternatives: bool) -> dict[str, Any]: ...
def frontier(problem: Arrays, effort: Effort, points: int) -> tuple[list[_Floats], bool]: ...
def neighbour_sums(
    packed: _Singles,
    similarity: _Singles,
    index: NDArray[np.int64],
    shape: tuple[int, int, int],
    temperature: float,
) -> tuple[_Singles, _Singles]: ...

@final
class Forecaster:
    def __new__(cls, calibration: Mapping[str, Any], shrinkage: Mapping[str, Any] | None) -> Self: ...
    def forecast(
        self,
        heads: tuple[_Singles, _Singles, _Singles] | None,
        neighbours: tuple[_Singles, _Singles] | None,
    ) -> tuple[_Singles, _Singles, _Singles, _Singles]: ...

@final
class Vectors:
    def __new__(cls, vectors: _Singles, dimension: int) -> Self: ...
    def __len__(self) -> int: ...
    def search(self, queries: _Singles, k: int, threads: int) -> tuple[_Singles, NDArray[np.int64]]: ...
    def put(self, row: int, vector: _Singles) -> None: ...
    def to_array(self) -> _Singles: ...

@final
class WordPieces:
    def __new__(cls, vocabulary: Mapping[str, Any]) -> Self: ...
    def encode(
        self, texts: Sequence[str], limit: int, threads: int
    ) -> list[tuple[NDArray[np.int64], int] | None]: ...
