"""Make the catalogue's scores.json from the published scores and the labelled sets of a data folder.

    python tools/catalogue/scores.py DATA

Facts alone: means per model and benchmark with their source; of the labelled sets the means over their
questions. The factor model of the boards is fitted on them and its columns written beside the facts.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eccos_rs.catalogue.factor import fit_columns, log_odds
from eccos_rs.catalogue.lengths import VISIBLE
from eccos_rs.catalogue.matching import same_date
from eccos_rs.catalogue.models import catalogue
from eccos_rs.catalogue.names import parse_name

OUT = Path(__file__).parents[2] / "python/eccos_rs/catalogue/data/scores.json"

SOURCES = {
    "LiveBench/livebench.github.io": ("livebench", "board", "Apache-2.0"),
    "ShishirPatil/gorilla": ("bfcl", "board", "Apache-2.0"),
    "Aider-AI/aider": ("aider", "board", "Apache-2.0"),
    "EuroEval/leaderboards": ("euroeval", "board", "MIT"),
    "JonathanChavezTamales/llm-leaderboard": ("vendor", "vendor", "CC-BY-4.0, LLMStats"),
    "TIGER-AI-Lab/MMLU-Pro": ("mmlu-pro-board", "board", "Apache-2.0"),
    "lmarena/arena-hard-auto": ("arena-hard", "board", "Apache-2.0"),
    "nakasyou/lmarena-history": ("arena", "elo", "MIT"),
    "shisa-ai/shaberi": ("shaberi", "board", "Apache-2.0"),
    "sierra-research/tau2-bench": ("tau2", "board", "MIT"),
    "LiveCodeBench/livecodebench.github.io": ("livecodebench", "board", "MIT"),
    "Archangel-gabri/llm-university-math-benchmark": ("university-math", "board", "MIT"),
}
"""Repository to the source's id, its kind, and the licence of the facts."""

LABELLED = {
    "knowledge_qa": ("mmlu-pro", "TIGER-AI-Lab/MMLU-Pro", "Apache-2.0"),
    "math_reasoning": ("zeroeval", "WildEval/ZeroEval", "Apache-2.0"),
    "code_execution": ("zeroeval", "WildEval/ZeroEval", "Apache-2.0"),
    "mixed_tasks": ("llmrouter", "LLMRouter", "MIT"),
    "japanese_chat": ("shaberi-answers", "shisa-ai/shaberi", "Apache-2.0"),
    "code_contests": ("livecodebench-answers", "LiveCodeBench", "MIT"),
    "trick_questions": ("misguided", "MisguidedAttention", "CC0-1.0"),
    "reasoning_lengths": ("token-economy", "LRMTokenEconomy", "Apache-2.0"),
}
"""File of labelled answers to source; the means of its questions are the harness that forecasts are made
in."""

_RENAMED = {
    "mmlu-pro": "mmlu_pro",
    "swe-bench-verified": "swe_bench",
    "big-bench-hard": "bbh",
    "humanity's-last-exam": "hle",
    "arc-c": "arc_challenge",
}
_FEWEST = 30
"""Questions that a category's mean needs at least."""
_SUMMARY = re.compile(
    r"(cnn_dailymail|lr_sum|nordjylland_news|_sum(_|$)|hunsum|lingua|no_sammendrag|orange|summ)"
)
_NAMES_WEIGHTS = ("euroeval", "mmlu-pro", "mmlu-pro-board")
"""Sources that name weights, where a name without "instruct" is the base model; elsewhere it is what is
served."""
_NO_BASE = re.compile(
    r"instruct|chat|[-_]it\b|dpo|sft|orpo|thinking|reasoning|[-_]inst\b|tulu|hermes|zephyr|nemotron",
    re.IGNORECASE,
)
_HAS_BASE = re.compile(
    r"^(?:.*/)?(?:meta-)?(?:llama-?[1234]|qwen(?:1\.5|2)|mistral-(?:7b|nemo)|mixtral|gemma|yi|phi-[12]|codegemma)",
    re.IGNORECASE,
)


def main(data: Path) -> None:
    """Write the table."""
    entries = pd.concat([published(data), labelled(data)], ignore_index=True)
    entries = entries[~entries.model.str.contains(r" \+ ", regex=True)]
    entries = entries.groupby(
        ["source", "date", "benchmark", "unit", "model"], as_index=False, sort=True
    ).value.mean()
    columns = entries[["source", "date", "benchmark", "unit"]].drop_duplicates().reset_index(drop=True)
    at = {tuple(row): i for i, row in enumerate(columns.itertuples(index=False))}
    entries["column"] = [
        at[row] for row in entries[["source", "date", "benchmark", "unit"]].itertuples(index=False, name=None)
    ]
    weights = entries[entries.source.isin(_NAMES_WEIGHTS)].model.unique()
    bases = sorted({m for m in weights if _HAS_BASE.match(m) and not _NO_BASE.search(m)})
    units, families = count_units(sorted(entries.model.unique()), set(bases))
    fitted = fit(entries, units, families, len(columns), hidden(data))
    write(entries, columns, bases, fitted)


def published(data: Path) -> pd.DataFrame:
    """Return the scores of the public tables: model, benchmark, date, source, unit, value."""
    rows = pd.read_parquet(data / "published_scores.parquet")
    rows = rows[~rows.kind.str.contains("custom|voice") & (rows.unit != "rank")]
    rows = rows[~rows.benchmark.str.contains("validity")]
    found = [
        column(*row) for row in zip(rows.repo, rows.model, rows.benchmark, rows.unit, rows.score, strict=True)
    ]
    return pd.DataFrame([row for row in found if row is not None])


def column(repo: str, model: str, benchmark: str, unit: str, score: float) -> dict[str, Any] | None:
    """Return one row in the names and units of the table; None where it is no score of a model."""
    source, _, _ = SOURCES[repo]
    name, date = re.sub(r"_(20\d\d)_(\d\d)(?:_(\d\d))?(?=/|$)", "", benchmark), ""
    if told := re.search(r"_(20\d\d)_(\d\d)(?:_(\d\d))?(?=/|$)", benchmark):
        date = "-".join(part for part in told.groups() if part)
    if "@" in name:
        name, _, day = name.partition("@")
        date = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    name = name.lower().replace(" ", "_")
    if source == "bfcl":
        name = name.replace("bfcl_v4", "bfcl")
        if "(prompt" in model.lower():
            source = "bfcl-prompt"
    if source == "livecodebench":
        name, date = re.sub(r"_20\d\d_\d\d_20\d\d_\d\d", "", benchmark), "2025-04"
    if source == "vendor":
        name = _RENAMED.get(name, name.replace("-", "_"))
    if source == "euroeval" and _SUMMARY.search(name):
        return None
    scale = {"percent": 100.0, "share": 1.0, "of 10": 10.0}.get(unit)
    if scale is not None:
        value, unit = score / scale, "share"
        if value > 1:
            return None  # a vendor's points or Elo among the shares
        value = max(value, 0.0)
    elif unit == "seconds":
        return None
    else:
        value = score
    return {"model": model, "benchmark": name, "date": date, "source": source, "unit": unit, "value": value}


def labelled(data: Path) -> pd.DataFrame:
    """Return the means of the labelled sets, by data set and category."""
    out = []
    for file, (source, _, _) in LABELLED.items():
        rows = pd.read_parquet(data / f"{file}.parquet")
        rows["top"] = rows.dataset.str.partition("/")[0]
        for by in ("dataset", "top"):
            means = rows.groupby([by, "model"]).agg(
                value=("quality", "mean"), tokens=("output_tokens", "mean"), n=("quality", "size")
            )
            for (name, model), row in means.iterrows():
                twice = by == "top" and (rows.dataset == name).any()
                if twice or (row.n < _FEWEST and file != "reasoning_lengths"):
                    continue
                base = {"model": model, "benchmark": name, "date": "", "source": source}
                if file != "reasoning_lengths":
                    out.append({**base, "unit": "share", "value": float(row.value)})
                if pd.notna(row.tokens) and row.tokens > 0:
                    out.append({**base, "unit": "tokens", "value": float(row.tokens)})
    return pd.DataFrame(out)


def count_units(spellings: list[str], bases: set[str]) -> tuple[dict[str, int], np.ndarray]:
    """Return which model each spelling is (identity, release, effort), and each model's identity."""
    units: list[tuple[frozenset[str], str | None, frozenset[str]]] = []
    known: dict[str, int] = {}
    dates: dict[frozenset[str], set[str]] = {}
    for spelling in spellings:
        name = parse_name(spelling)
        dates.setdefault(name.identity, set()).update(name.dated)
    for spelling in sorted(spellings, key=lambda s: (not parse_name(s).dated, s)):
        name = parse_name(spelling)
        identity = name.identity | {"base"} if spelling in bases else name.identity
        release = name.release
        alone = all(same_date(a, b) for a in dates[name.identity] for b in dates[name.identity])
        if not name.dated and alone and dates[name.identity]:
            release = frozenset({min(dates[name.identity])}) | (name.release & {"preview"})
        for at, (other, effort, when) in enumerate(units):
            dated, others = release - {"preview"}, when - {"preview"}
            same = bool(dated) == bool(others) and (
                not dated or any(same_date(a, b) for a in dated for b in others)
            )
            if (
                other == identity
                and effort == name.effort
                and same
                and (release ^ when) & {"preview"} == set()
            ):
                known[spelling] = at
                break
        else:
            known[spelling] = len(units)
            units.append((identity, name.effort, release))
    return known, pd.factorize(pd.Series(["|".join(sorted(identity)) for identity, _, _ in units]))[0]


def fit(
    entries: pd.DataFrame, units: dict[str, int], families: np.ndarray, n: int, adds: float
) -> dict[str, list[float | None]]:
    """Fit the factor model; return intercept, slope and error of each column."""
    y = np.full(len(entries), np.nan)
    is_share = (entries.unit == "share").to_numpy()
    y[is_share] = log_odds(entries.value.to_numpy()[is_share])
    is_elo = (entries.unit == "elo").to_numpy()
    y[is_elo] = (entries.value.to_numpy()[is_elo] - 1200) * np.log(10) / 400
    use = np.isfinite(y)
    board = pd.factorize(entries.source.str.replace("-prompt", ""))[0]
    model = np.array([units[m] for m in entries.model])
    mu, lam, sigma = (np.full(n, np.nan) for _ in range(3))
    got, theta = fit_columns(model[use], entries.column.to_numpy()[use], y[use], board[use], family=families)
    tokens = token_line(entries, units, mu, sigma, adds)
    line = price_line(units, theta)
    size = len(got.mu)
    scored = np.isfinite(got.lam)
    for whole, part in ((mu, got.mu), (lam, got.lam), (sigma, got.sigma)):
        whole[:size][scored] = part[scored]
    return {
        name: [None if not np.isfinite(v) else round(float(v), 4) for v in values]
        for name, values in (("mu", mu), ("lam", lam), ("sigma", sigma))
    } | {"price_line": line, "token_line": tokens}


_SPREAD = 0.6
"""Standard deviation of ln tokens between models of one kind, towards which few counts are drawn."""


def token_line(
    entries: pd.DataFrame, units: dict[str, int], mu: np.ndarray, sigma: np.ndarray, adds: float
) -> list[float]:
    """Fit ln tokens = column + model on the counts, put the columns into mu and sigma.

    Returns the mean of a model that does not think aloud in private, what thinking adds, and the spread.
    """
    part = entries[entries.unit == "tokens"].reset_index(drop=True)
    unit = part.model.map(units).to_numpy()
    column = part.column.to_numpy()
    thinks = np.array([thinking(model) for model in part.model], dtype=float)
    # What was counted from the visible text lacks what a model thought before.
    y = np.log(part.value.to_numpy()) + adds * thinks * part.source.isin(VISIBLE).to_numpy()
    models, unit = np.unique(unit, return_inverse=True)
    centre = np.zeros(len(models))
    centre[unit] = adds * thinks
    counts, sizes = np.bincount(unit, minlength=len(models)), np.bincount(column, minlength=len(mu))
    rho, noise = centre.copy(), 0.2
    for _ in range(200):
        level = np.bincount(column, y - rho[unit], len(mu)) / np.maximum(sizes, 1)
        free = np.bincount(unit, y - level[column], len(models))
        rho = (free / noise + centre / _SPREAD**2) / (counts / noise + _SPREAD**-2)
        rho -= (rho - centre).mean()
        noise = max(float(np.mean((y - level[column] - rho[unit]) ** 2)), 0.05)
    error = y - level[column] - rho[unit]
    for each in np.unique(column):
        own = error[column == each]
        mu[each], sigma[each] = level[each], np.sqrt((np.sum(own**2) + 2 * noise) / (len(own) + 2))
    spread = float(np.std(rho - centre))
    print(f"ln tokens: thinking adds {adds:.2f}, of a kind differ by {spread:.2f}, noise {noise**0.5:.2f}")
    return [0.0, round(adds, 4), round(max(spread, 0.3), 4)]


def hidden(data: Path) -> float:
    """Return what thinking adds to ln tokens: of each model all over its answer's, the median."""
    rows = pd.read_parquet(data / "reasoning_lengths.parquet").dropna(subset=["reasoning_tokens"])
    means = rows.groupby("model")[["output_tokens", "reasoning_tokens"]].mean().astype(float)
    ratio = means.output_tokens / (means.output_tokens - means.reasoning_tokens)
    return float(np.log(ratio[(ratio > 1.05) & (ratio < _LONELY)].median()))


_LONELY = 15.0
"""Beyond it the answer is a bare word; how much longer the thinking is says nothing."""


def thinking(spelling: str) -> bool:
    """Say whether a spelling names a model that thinks before it answers."""
    effort = parse_name(spelling).effort
    if effort is not None:
        return effort not in ("none", "minimal")
    found = next(iter(catalogue().find(spelling)), None)
    return found is not None and found.thinks


def price_line(units: dict[str, int], theta: np.ndarray) -> list[float]:
    """Return the line of theta over ln(price of output), fitted on the priced models, and its error."""
    priced: dict[int, float] = {}
    for spelling, unit in units.items():
        found = next(iter(catalogue().find(spelling)), None)
        if found is not None and found.prices is not None and found.prices.output > 0 and unit < len(theta):
            priced[unit] = float(np.log(found.prices.output))
    x, y = np.array(list(priced.values())), theta[list(priced)]
    slope, intercept = np.polyfit(x, y, 1)
    sd = float(np.std(y - intercept - slope * x))
    print(f"theta over ln price: {intercept:.2f} + {slope:.2f} x, sd {sd:.2f} over {len(x)} models")
    return [round(float(v), 4) for v in (intercept, slope, sd)]


def write(
    entries: pd.DataFrame, columns: pd.DataFrame, bases: list[str], fitted: dict[str, list[float | None]]
) -> None:
    """Write the table: a line a model, so that a change can be read."""
    sources: dict[str, dict[str, str]] = {}
    for repo, (source, kind, licence) in SOURCES.items():
        sources[source] = {"kind": kind, "repo": repo, "licence": licence}
    sources["bfcl-prompt"] = {**sources["bfcl"], "harness": "tools described in the prompt"}
    for source, repo, licence in LABELLED.values():
        sources[source] = {"kind": "answers", "repo": repo, "licence": licence}
    models = {
        str(model): [
            round(float(x), 4) if unit == "share" else round(float(x), 1)
            for x, unit in zip(g.value, g.unit, strict=True)
        ]
        for model, g in entries.groupby("model", sort=True)
    }
    at = {str(model): g.column.tolist() for model, g in entries.groupby("model", sort=True)}
    lines = [
        "{",
        '"schema_version": 1,',
        f'"sources": {json.dumps(sources)},',
        f'"price_line": {json.dumps(fitted["price_line"])},',
        f'"token_line": {json.dumps(fitted["token_line"])},',
        f'"bases": {json.dumps(bases)},',
        '"columns": [',
    ]
    rows = [
        json.dumps([*row, fitted["mu"][i], fitted["lam"][i], fitted["sigma"][i]], ensure_ascii=False)
        for i, row in enumerate(columns.itertuples(index=False, name=None))
    ]
    lines += [",\n".join(rows), "],", '"models": {']
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    rows = [
        f"{json.dumps(name, ensure_ascii=False)}: {json.dumps([at[name], values], **compact)}"
        for name, values in models.items()
    ]
    lines.append(",\n".join(rows))
    lines += ["}", "}", ""]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("\n".join(lines), encoding="utf-8")
    print(f"{OUT}: {len(models)} spellings, {len(columns)} columns, {len(entries)} scores")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
