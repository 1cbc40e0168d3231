from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eccos_rs._arrays import Arrays, Effort

_Floats: TypeAlias = NDArray[np.float64]

__all__ = ["__version__", "assign", "frontier"]

__version__: str

def assign(problem: Arrays, effort: Effort, alternatives: bool, /) -> dict[str, Any]: ...
def frontier(
    problem: Arrays, effort: Effort, max_points: int, /
) -> tuple[_Floats, _Floats, _Floats, bool]: ...
