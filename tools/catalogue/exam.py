"""Make the catalogue's exam.npz: which questions of a board the known models answered well, as bits.

    python tools/catalogue/exam.py DATA [--check]

No text is kept, only a hash of each question. ``--check`` prints how far off the category means of an exam
are: each known model in turn is the one examined, by random questions stratified by category.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from eccos_rs.catalogue.exam import Board, boards, question_key, scores_of_answers

OUT = Path(__file__).parents[2] / "python/eccos_rs/catalogue/data/exam.npz"
FILES = {"knowledge_qa": "mmlu_pro", "math_reasoning": None}
DRAWS = 3


def main(data: Path) -> None:
    """Write the file."""
    arrays: dict[str, np.ndarray] = {}
    names: list[str] = []
    for file, board in FILES.items():
        rows = pd.read_parquet(data / f"{file}.parquet")
        for name, part in [(board, rows)] if board else rows.groupby("dataset"):
            wide = part.pivot_table(index="query_id", columns="model", values="quality").dropna()
            facts = part.drop_duplicates("query_id").set_index("query_id").loc[wide.index]
            categories = sorted(facts.dataset.unique())
            keys = [question_key(*parts(query)) for query in facts["query"]]
            # Ordered by hash, so that a longer exam asks the questions of a shorter one and more.
            order = np.argsort(np.array(keys, dtype=np.uint64))
            names.append(str(name))
            arrays[f"{name}.keys"] = np.array(keys, dtype=np.uint64)[order]
            arrays[f"{name}.category"] = facts.dataset.map(categories.index).to_numpy(dtype=np.uint8)[order]
            arrays[f"{name}.categories"] = np.array(categories)
            arrays[f"{name}.right"] = np.packbits(wide.to_numpy()[order] >= 0.5, axis=1)
            arrays[f"{name}.models"] = np.array([str(model) for model in wide.columns])
    np.savez_compressed(OUT, boards=np.array(names), **arrays)
    print(f"{OUT}: {', '.join(names)}, {OUT.stat().st_size / 1e3:.0f} kB")


def parts(query: str) -> tuple[str, list[str]]:
    """Split a question from its options."""
    question, _, options = query.partition("\n(A) ")
    return question, [options.partition("\n(B) ")[0]] if options else []


def check() -> None:
    """Print the error of category means, in points, by the number of questions."""
    board = boards()["mmlu_pro"]
    rng = np.random.default_rng(0)
    for n in (100, 250, 500, 1000, 2000):
        errors, plain, inside = [], [], []
        for at in range(len(board.models)):
            others = [k for k in range(len(board.models)) if k != at]
            rest = replace(board, right=board.right[:, others])
            truth = board.right[:, at].astype(float)
            for _ in range(DRAWS):
                rows = stratified(board, n, rng)
                told = scores_of_answers(rest, rows, truth[rows])
                for k, name in enumerate(board.categories):
                    part = board.category == k
                    mean, own = truth[part].mean(), truth[rows[board.category[rows] == k]]
                    errors.append(abs(told.scores[name] - mean))
                    plain.append(abs(own.mean() - mean))
                    odds = [np.log(v / (1 - v)) for v in np.clip([told.scores[name], mean], 0.01, 0.99)]
                    inside.append(abs(odds[0] - odds[1]) < 1.645 * told.sd[name])
        print(
            f"{n:5d} questions: category means off by {100 * np.mean(errors):.1f} points (their plain means "
            f"{100 * np.mean(plain):.1f}); 90 % interval holds {100 * np.mean(inside):.0f} %"
        )


def stratified(board: Board, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw about n questions, each category by its share of the board."""
    chosen = []
    for k in range(len(board.categories)):
        rows = np.flatnonzero(board.category == k)
        chosen.append(rng.choice(rows, max(round(n * len(rows) / len(board.category)), 2), replace=False))
    return np.concatenate(chosen)


if __name__ == "__main__":
    check() if "--check" in sys.argv else main(Path(sys.argv[1]))
