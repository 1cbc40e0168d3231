"""Print how far off the factor model is for models that are left out, and how often its interval holds.

    python tools/catalogue/check.py DATA

In five folds over the families of models: the scores of a fold on a benchmark, by every hand, are left out
of the fit and filled from the model's other scores.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from eccos_rs.catalogue.factor import fit_columns, log_odds, share, strength

sys.path.insert(0, str(Path(__file__).parent))
from scores import count_units, labelled, published

TARGETS = {
    ("zeroeval", "gsm8k"): ("gsm8k",),
    ("zeroeval", "math_l5"): ("math_l5", "math"),
    ("zeroeval", "cruxeval_output"): ("cruxeval_output",),
    ("mmlu-pro", "mmlu_pro"): ("mmlu_pro",),
    ("bfcl", "bfcl/overall"): ("bfcl",),
    ("livecodebench-answers", "livecodebench"): ("livecodebench",),
    ("vendor", "swe_bench"): ("swe_bench",),
    ("vendor", "gpqa"): ("gpqa",),
    ("shaberi-answers", "shaberi"): ("shaberi", "shaberi_ja"),
}
"""Source and benchmark that is filled, and what is left out with it: the same benchmark by other hands."""
FOLDS = 5


def main(data: Path) -> None:
    """Print a line a benchmark, and one over all."""
    entries = pd.concat([published(data), labelled(data)], ignore_index=True)
    entries = entries[entries.unit.isin(["share", "elo"]) & ~entries.model.str.contains(r" \+ ")]
    keys = ["source", "date", "benchmark", "unit", "model"]
    entries = entries.groupby(keys, as_index=False, sort=True).value.mean()
    units, families = count_units(sorted(entries.model.unique()), set())
    unit = entries.model.map(units).to_numpy()
    column = pd.factorize(entries.source + entries.date + entries.benchmark)[0]
    board = pd.factorize(entries.source.str.replace("-prompt", ""))[0]
    elo = (entries.value - 1200) * np.log(10) / 400
    y = np.where(entries.unit == "share", log_odds(entries.value.to_numpy()), elo)
    top = entries.benchmark.str.partition("/")[0].to_numpy()
    fold = np.random.default_rng(0).integers(0, FOLDS, families.max() + 1)[families[unit]]
    found = []
    for (source, benchmark), same in TARGETS.items():
        target = ((entries.source == source) & (entries.benchmark == benchmark)).to_numpy()
        for at in range(FOLDS):
            held = np.isin(top, same) & (fold == at)
            fitted, _ = fit_columns(unit[~held], column[~held], y[~held], board[~held], family=families)
            where = column[target][0]
            known = float(share(y[target & ~held].mean()))
            for row in np.flatnonzero(held & target):
                own = ~held & (unit == unit[row])
                if not own.any() or where >= len(fitted.mu) or not np.isfinite(fitted.lam[where]):
                    continue
                told = strength(fitted, column[own], y[own], board[own])
                odds = fitted.mu[where] + fitted.lam[where] * told.theta
                sd = np.hypot(fitted.sigma[where], fitted.lam[where] * told.sd)
                points = [
                    abs(float(share(guess)) - float(share(y[row]))) for guess in (odds, log_odds(known))
                ]
                found.append((benchmark, odds - y[row], *points, abs(odds - y[row]) < 1.645 * sd))
    table = pd.DataFrame(found, columns=["benchmark", "error", "points", "nothing", "inside"])
    for name, part in [*table.groupby("benchmark", sort=False), ("all", table)]:
        print(
            f"{name:16s} {len(part):4d} scores: off by {100 * part.points.mean():4.1f} points "
            f"(knowing nothing {100 * part.nothing.mean():4.1f}), sd {part.error.std():.2f} log odds, "
            f"90 % interval holds {100 * part.inside.mean():.0f} %"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
