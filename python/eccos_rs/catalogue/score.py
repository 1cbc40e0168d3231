"""One score of a model on a benchmark, and how sure it is by the kind of its source."""

from __future__ import annotations

from dataclasses import dataclass

from eccos_rs.catalogue.factor import log_odds

__all__ = ["SOURCE_SD", "Score"]

SOURCE_SD = {"answers": 0.08, "board": 0.08, "own": 0.15, "vendor": 0.20, "elo": 0.35}
"""Standard deviation in log odds of one score, by the kind of its source: what the same model would score
elsewhere under the harness named. ``answers`` are means over the labelled questions that forecasts are
trained on."""


@dataclass(frozen=True, slots=True)
class Score:
    """A model's score on a benchmark.

    Parameters
    ----------
    value : float
        Share of the questions answered well, 0 to 1.
    sd : float
        Standard deviation of its log odds under the harness that forecasts are trained on.
    source : str
        Who measured it: a board's id, ``"vendor"``, ``"own"``, or ``"filled"`` for the factor model's
        estimate.
    kind : str
        ``"answers"``, ``"board"``, ``"vendor"``, ``"own"`` or ``"filled"``.
    date : str, optional
        Of the board's release, as far as it is known.
    note : str
        What differs between the model asked for and the one that was measured; empty when nothing does.
    """

    value: float
    sd: float
    source: str
    kind: str
    date: str | None = None
    note: str = ""

    @property
    def log_odds(self) -> float:
        """The log odds of the value."""
        return float(log_odds(self.value))
