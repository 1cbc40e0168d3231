"""What a router from names and scores alone is worth, by leaving models out of public answers.

    python -m benches.day_one ../shared/data [--sections AEF] [--states FILE.npz]

Prints the figures of each section beside what the project wants of them. The encoder's outputs are kept in
FILE.npz, which takes minutes to make and seconds to read. Splits are by text, and the published scores of a
left-out model are its means over other questions than those judged.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eccos_rs.evaluate.curves import hull, quality_at
from eccos_rs.evaluate.metrics import auc, brier, ece
from eccos_rs.predict.bundle import Bundle
from eccos_rs.predict.calibration import expit
from eccos_rs.predict.familiarity import familiarity
from eccos_rs.predict.prior.ability import Known, lay_over
from eccos_rs.predict.prior.curves import benchmark_name
from eccos_rs.predict.prior.posterior import (
    FILLED_COUNTS,
    Observations,
    PriorWidths,
    fit_posterior,
    token_factor,
)
from eccos_rs.train.prior.answers import join_answers, read_answers
from eccos_rs.train.prior.fit import Smoother, fit_curves, fit_metric, make_training_set
from eccos_rs.train.prior.states import cached_states

FILES = ("qaserve_public", "knowledge_qa", "math_reasoning", "code_execution", "mixed_tasks")
# Of the pool's models, and those of their families in the other sets: what is onboarded must be unknown.
KIN = ("llama-3.1", "deepseek", "gemini-1.5", "gpt-4o", "qaserve_public/")
WANTED = {
    "A AUC": (0.694, 0.70), "A Brier": (0.2002, 0.198), "A ECE": (0.030, 0.020),
    "A weaker AUC": (0.696, 0.70), "A weaker Brier": (0.2095, 0.208),
    "D metadata + 20 labels, Brier": (0.2007, 0.199), "D metadata + 50 labels, Brier": (0.1994, 0.198),
    "C tokens, published mean, % off": (2, 1), "C tokens, 20 counts, % off": (13, 10),
    "C tokens, 50 counts, % off": (8, 6),
    "E quality at 5 %": (70.9, 71.2), "E quality at 10 %": (72.8, 73.0), "E quality at 20 %": (74.1, 74.3),
    "E overall scores only, worst against the blind mix": (-0.3, 0.0),
    "F unseen sets, worst Brier minus the means'": (0.001, 0.0),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Material:
    """All answers, the states of their texts, and where each text's state lies."""

    answers: dict
    states: np.ndarray
    row_of: dict
    metric: object

    def curves(self, parts, smoother=None, seed=0):
        """Fit curves to some answers."""
        data = make_training_set(parts, self.row_of)
        x = self.states[data.row]
        smoother = smoother or Smoother(x, self.metric)
        return fit_curves(data, smoother, x, seed), smoother


def known_by_means(part, column, categories, *, by_category=True, tokens=True):
    """Take a model's published scores from its means over some queries of each benchmark."""
    level = np.full(len(categories), np.nan)
    success, counts = level.copy(), level.copy()
    for at, category in enumerate(categories):
        for each in part:
            mine = each.category == category
            column_at = column(each)
            if each.benchmark != benchmark_name(category) or column_at is None:
                continue
            level[at] = np.nanmean(each.quality[:, column_at])
            counts[at] = np.nanmean(each.output_tokens[:, column_at]) if tokens else np.nan
            if by_category and category != each.benchmark and mine.any():
                success[at] = np.nanmean(each.quality[mine, column_at])
    level = np.where(np.isfinite(level), level, np.nanmean(level))
    return Known(level, success, counts)


def halves(part, share, seed=0):
    """Split the queries of a benchmark."""
    chosen = np.random.default_rng(seed).random(len(part)) < share
    return part.rows(chosen), part.rows(~chosen)


def figures(p, y):
    """AUC, Brier and calibration error of one model."""
    return np.array([auc(p, y), brier(p, y), ece(p, y)])


def section_a(material, report):
    """Leave one model out of MMLU-Pro; then with weaker known models alone. Then tokens and labels (C, D)."""
    part = material.answers["mmlu_pro_alone"]
    learned, judged = halves(part, 0.6)
    mean = np.nanmean(part.quality, axis=0)
    best = np.argsort(-mean)
    x = material.states[[material.row_of[text] for text in judged.query]]
    # Sixteen of all strengths; of the strongest twenty each has weaker ones to be told by.
    spread = best[np.linspace(0, len(best) - 1, 16).round().astype(int)]
    smoother, found = None, {}
    for kind, models in (("", spread), (" weaker", best[:20])):
        rows = []
        for at in models:
            others = [m for m in range(len(mean)) if m != at and (not kind or mean[m] < mean[at])]
            known = learned.without([n for m, n in enumerate(part.models) if m not in others])
            curves, smoother = material.curves([known], smoother)
            reading = curves.read(x)
            y = judged.quality[:, at]
            whole = known_by_means([learned], lambda _, at=at: at, curves.categories)
            one = known_by_means([learned], lambda _, at=at: at, curves.categories, by_category=False)
            ability, single = lay_over(curves, whole), lay_over(curves, one)
            z, z_one = ability.log_odds(reading), single.log_odds(reading)
            constant = np.full(len(y), np.nanmean(learned.quality[:, at]))
            rows.append([figures(p, y) for p in (constant, expit(z_one), expit(z))])
            if not kind:
                found[at] = (
                    z,
                    z_one,
                    reading,
                    y,
                    ability.output_tokens(reading),
                    judged.output_tokens[:, at],
                )
        table = np.mean(rows, axis=0)
        for name, each in zip(("constant", "one score", "by category"), table, strict=True):
            print(f"  MMLU-Pro{kind}: {name:12s} AUC {each[0]:.3f} Brier {each[1]:.4f} ECE {each[2]:.3f}")
        report[f"A{kind} AUC"], report[f"A{kind} Brier"] = table[2][0], table[2][1]
        if not kind:
            report["A ECE"] = table[2][2]
    section_c(found, report)
    section_d(found, report)


def section_c(found, report):
    """Total tokens of a model: from its published mean, and from a few counts."""
    told, counted = [], {20: [], 50: []}
    rng = np.random.default_rng(0)
    for _, _, _, _, expected, spent in found.values():
        told.append(abs(expected.sum() / spent.sum() - 1))
    # Nothing told: a model is as wordy as the others on average.
    usual = np.exp(
        np.mean(
            [np.log(spent.sum() / expected.sum() * expected.mean()) for *_, expected, spent in found.values()]
        )
    )
    for _, _, _, _, expected, spent in found.values():
        shape = expected / expected.mean() * usual
        for count, errors in counted.items():
            for _ in range(20):
                rows = rng.choice(len(spent), count, replace=False)
                errors.append(
                    abs(token_factor(spent[rows], shape[rows], FILLED_COUNTS) * shape.sum() / spent.sum() - 1)
                )
    report["C tokens, published mean, % off"] = 100 * np.median(told)
    for count, errors in counted.items():
        report[f"C tokens, {count} counts, % off"] = 100 * np.median(errors)


def section_d(found, report):
    """Labels on top of category scores, and of a level that is off by a standard deviation of 0.35."""
    counts, draws = (0, 5, 20, 50, 200, 500), 2
    curves = {("category scores", n): [] for n in counts} | {("metadata", n): [] for n in counts}
    curves |= {("labels alone", n): [] for n in counts[2:]}
    rng = np.random.default_rng(0)
    for number, (z, z_one, reading, y, *_) in enumerate(list(found.values())[:12]):
        off = 0.35 * (-1) ** number
        for _ in range(draws):
            order = rng.permutation(len(y))
            for name, before, level, category in (
                ("category scores", z, 0.08, 0.1),
                ("metadata", z_one + off, 0.35, 0.25),
            ):
                for n in counts:
                    rows = order[:n]
                    after = learned_odds(before, reading, rows, y, level=level, category=category)
                    rest = order[500:]
                    curves[name, n].append(
                        [brier(expit(after[rest]), y[rest]), abs(np.mean(expit(after[rest]) - y[rest]))]
                    )
            for n in counts[2:]:
                rows, rest = order[:n], order[500:]
                flat = learned_odds(z_one + off, reading, rows, y, level=5.0, category=1.0)
                curves["labels alone", n].append(
                    [brier(expit(flat[rest]), y[rest]), abs(np.mean(expit(flat[rest]) - y[rest]))]
                )
    for name in ("category scores", "metadata", "labels alone"):
        cells = [
            f"{n}: {np.mean(v, axis=0)[0]:.4f}/{np.mean(v, axis=0)[1]:.3f}"
            for (kind, n), v in curves.items()
            if kind == name
        ]
        print(f"  {name:16s} {'  '.join(cells)}")
    for n in (20, 50):
        report[f"D metadata + {n} labels, Brier"] = np.mean(curves["metadata", n], axis=0)[0]
    prior = {k: np.mean(curves[k, 0], axis=0)[0] for k in ("category scores", "metadata")}
    worst = max(
        np.mean(v, axis=0)[0]
        - min(prior[kind], np.mean(curves.get(("labels alone", n), [[9, 9]]), axis=0)[0])
        for (kind, n), v in curves.items()
        if kind in prior
    )
    report["D posterior, worst against either source"] = worst


def learned_odds(before, reading, rows, y, *, level, category):
    """Return log odds after some labels, as `router.learn` makes them."""
    if not len(rows):
        return before
    evidence = Observations(
        np.zeros(len(rows), dtype=np.int64), np.full(len(rows), -1), y[rows], before[rows],
        reading.membership[rows], np.zeros(len(rows)), np.empty((len(rows), 0), dtype=np.float32),
    )  # fmt: skip
    made = fit_posterior(evidence, PriorWidths(np.array([level]), np.array([category])), 0)
    after = made.log_odds(before[:, None], reading.membership, np.zeros(len(before)), None)
    return after[:, 0]


def section_e(material, report, data):
    """Route six models that no label was seen of; in two halves, each judged by what the other published."""
    pool = material.answers["pool"]
    others = [part for name, part in material.answers.items() if name not in ("pool", "mmlu_pro_alone")]
    others = [part.without([m for m in part.models if any(k in m.lower() for k in KIN)]) for part in others]
    price, input_tokens = prices(data, pool[0].models), inputs(data)
    reached, promised = {"category scores": [], "overall scores": [], "blind mix": []}, []
    aucs = {name: [] for name in reached}
    for fold in (0, 1):
        chosen = [halves(part, 0.5, seed=0)[fold] for part in pool]
        judged = [halves(part, 0.5, seed=0)[1 - fold] for part in pool]
        held = {text for part in judged for text in part.query}
        kept = [part.rows(np.array([text not in held for text in part.query])) for part in others]
        curves, _ = material.curves([part for part in kept if len(part)])
        texts = [text for part in judged for text in part.query]
        reading = curves.read(material.states[[material.row_of[text] for text in texts]])
        y = np.concatenate([part.quality for part in judged])
        spent = np.concatenate([part.output_tokens for part in judged])
        read_in = np.array([input_tokens[text] for text in texts])[:, None]
        cost = (read_in * price[:, 0] + spent * price[:, 1]) / 1e6
        top = cost[:, y.mean(axis=0).argmax()].mean()
        budgets = np.array([0.05, 0.10, 0.20]) * top
        reached["blind mix"].append(quality_at(*hull(y.mean(axis=0), cost.mean(axis=0)), budgets))
        for name, by_category in (("category scores", True), ("overall scores", False)):
            abilities = [
                lay_over(
                    curves,
                    known_by_means(chosen, lambda part, m=m: m, curves.categories, by_category=by_category),
                )
                for m in range(len(price))
            ]
            p = expit(np.column_stack([each.log_odds(reading) for each in abilities])).astype(float)
            tokens = np.column_stack([each.output_tokens(reading) for each in abilities])
            expected = (read_in * price[:, 0] + tokens * price[:, 1]) / 1e6
            points = []
            for value in np.geomspace(1e-6, 1.0, 200):
                pick = (expected - value * p).argmin(axis=1)
                every = np.arange(len(pick))
                points.append((y[every, pick].mean(), cost[every, pick].mean(), p[every, pick].mean()))
            q, c, said = np.array(points).T
            reached[name].append(quality_at(q, c, budgets))
            aucs[name].append([np.mean([auc(p[:, m], y[:, m]) for m in range(len(price))]), brier(p, y)])
            if by_category:
                promised.append([np.interp(t, said, q) - t for t in (0.66, 0.70, 0.72, 0.74)])
    table = {name: 100 * np.mean(each, axis=0) for name, each in reached.items()}
    for name, each in table.items():
        also = "" if not aucs[name] else " AUC {:.3f} Brier {:.4f}".format(*np.mean(aucs[name], axis=0))
        print(f"  {name:16s} {each[0]:.1f} / {each[1]:.1f} / {each[2]:.1f}{also}")
    print("  realised minus promised at .66 / .70 / .72 / .74:", np.round(100 * np.mean(promised, axis=0), 1))
    for at, name in enumerate((5, 10, 20)):
        report[f"E quality at {name} %"] = table["category scores"][at]
    report["E overall scores only, worst against the blind mix"] = (
        table["overall scores"] - table["blind mix"]
    ).min()


def section_f(material, report):
    """Leave whole sets out: each model's level is known, the shape comes from the text, faded."""
    parts = [part for name, part in material.answers.items() if name not in ("pool", "mmlu_pro_alone")]
    sets = {}
    for part in parts:
        sets.setdefault("llmrouter" if part.benchmark.startswith("llmrouter") else part.benchmark, []).append(
            part
        )
    worst = []
    for name, away in sets.items():
        if name in ("gsm8k",):
            continue
        held = {text for part in away for text in part.query}
        kept = [
            part.rows(np.array([text not in held for text in part.query]))
            for part in parts
            if part not in away
        ]
        curves, _ = material.curves([part for part in kept if len(part)])
        gains, scores = [], []
        for part in away:
            reading = curves.read(material.states[[material.row_of[text] for text in part.query]])
            known = familiarity(reading.similarity)
            for m in range(len(part.models)):
                y = part.quality[:, m]
                seen = np.isfinite(y)
                if seen.sum() < 50:
                    continue
                mean = float(np.clip(y[seen].mean(), 0.02, 0.98))
                ability = lay_over(
                    curves,
                    Known(
                        np.full(len(curves.categories), mean), *np.full((2, len(curves.categories)), np.nan)
                    ),
                )
                z = ability.log_odds(reading)
                level = np.log(mean / (1 - mean))
                p = expit(level + known * (z - z.mean()))[seen]
                gains.append(brier(p, y[seen]) - brier(np.full(seen.sum(), mean), y[seen]))
                scores.append(auc(p, y[seen]))
        print(
            f"  without {name:16s} AUC {np.nanmean(scores):.3f} Brier minus the means' {np.mean(gains):+.4f} "
            f"familiar {known.mean():.2f}"
        )
        worst.append(np.mean(gains))
    report["F unseen sets, worst Brier minus the means'"] = max(worst)


def prices(data, models):
    """Return US dollars per million input and output tokens, in the order of the models."""
    from eccos_rs.pools.pool import Pool

    pool = Pool.load(Path(__file__).resolve().parents[1] / "models" / "qaserve-pool.toml")
    names = [name.partition("/")[2] for name in models]
    return np.array([[pool[name].input_price, pool[name].output_price] for name in names])


def inputs(data):
    """Return the input tokens of each text."""
    import pyarrow.parquet as pq

    table = pq.read_table(data / "qaserve_public.parquet", columns=["query", "input_tokens"]).to_pydict()
    return dict(zip(table["query"], table["input_tokens"], strict=True))


def main() -> None:
    """Run the sections asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sections", default="AEF")
    parser.add_argument("--states", type=Path, default=Path("results/day-one-states.npz"))
    args = parser.parse_args()
    read = [each for name in FILES for each in read_answers(args.data / f"{name}.parquet")]
    answers = {part.benchmark: part for part in join_answers(read)}
    answers["mmlu_pro_alone"] = read_answers(args.data / "knowledge_qa.parquet")[0]
    answers["pool"] = read_answers(args.data / "qaserve_public.parquet")
    texts = list(dict.fromkeys(text for part in read for text in part.query))
    states = cached_states(args.states, texts, Bundle.load("qaserve-minilm"))
    row_of = {text: row for row, text in enumerate(texts)}
    material = Material(answers, states, row_of, fit_metric(states))
    report: dict[str, float] = {}
    sections = {"A": section_a, "E": lambda m, r: section_e(m, r, args.data), "F": section_f}
    for letter in args.sections:
        start = time.perf_counter()
        print(f"{letter}: {sections[letter].__doc__ or 'routing'}", flush=True)
        sections[letter](material, report)
        print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"\n{'figure':55s} {'here':>8s} {'must':>8s} {'aim':>8s}")
    for name, value in report.items():
        must, aim = WANTED.get(name, ("", ""))
        print(f"{name:55s} {value:8.4g} {must:>8} {aim:>8}")


if __name__ == "__main__":
    sys.exit(main())
