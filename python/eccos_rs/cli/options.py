"""Options that several commands take, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eccos_rs.errors import PolicyError

if TYPE_CHECKING:
    from eccos_rs.routing.policy import Policy

__all__ = [
    "BundleName",
    "Device",
    "MinQuality",
    "PoolFile",
    "PredictorKind",
    "QualityValue",
    "QueryFloor",
    "RelativeQuality",
    "Threads",
    "TokensPerSecond",
    "make_policy",
]

# What is promised.

MinQuality = Annotated[
    float | None, typer.Option(help="Least cost with a mean predicted success of at least this, 0 to 1.")
]
QualityValue = Annotated[
    float | None, typer.Option(help="What one successful answer is worth, in US dollars.")
]
RelativeQuality = Annotated[
    float | None,
    typer.Option(
        help="Least cost with at least this share of the quality of sending all to the strongest model. "
        "Without any goal it is 0.97."
    ),
]
QueryFloor = Annotated[float | None, typer.Option(help="A floor on every single query's predicted success.")]

# The router.

BundleName = Annotated[
    str | None, typer.Option(help="A bundle's folder or name; the shipped one by default.")
]
PredictorKind = Annotated[str, typer.Option(help="hybrid, trained or retrieval.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads for the encoder.")]
PoolFile = Annotated[
    Path | None, typer.Option(help="A pool file in place of the bundle's: other prices, limits, models.")
]
TokensPerSecond = Annotated[
    float, typer.Option(help="The speed of an LLM that routing time is compared with.")
]


def make_policy(**values: Any) -> Policy:
    """Make a policy of what the options say.

    Raises
    ------
    typer.BadParameter
        Something is out of range, or two goals are given: that is usage, as much as how options are spelt.
    """
    from eccos_rs.routing.policy import Policy

    try:
        return Policy(**values)
    except PolicyError as error:
        raise typer.BadParameter(str(error)) from None
