from typing import Any

from eccos_rs._arrays import Arrays, Effort

__all__ = ["__version__", "assign", "frontier"]

__version__: str

def assign(problem: Arrays, effort: Effort, alternatives: bool, /) -> dict[str, Any]: ...
def frontier(problem: Arrays, effort: Effort, max_points: int, /) -> dict[str, Any]: ...
