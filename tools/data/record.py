"""Record what the sets of a folder hold: `sets.json`, `questions.json` and `prices.csv`, for `build.py`.

    python tools/data/record.py FOLDER

Run where the sets are those that the figures are made from. Numbers of questions, digests and prices are
kept; texts and answers are not.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sets import BUILDERS, HERE, Rows

SOURCES = {
    "qaserve_public": "MMLU-Pro and ZeroEval, see sources.json",
    "knowledge_qa": "https://github.com/TIGER-AI-Lab/MMLU-Pro (Apache-2.0, questions MIT)",
    "math_reasoning": "https://github.com/WildEval/ZeroEval (Apache-2.0, questions MIT)",
    "code_execution": "https://github.com/WildEval/ZeroEval (Apache-2.0)",
    "mixed_tasks": "LLMRouter (MIT)",
    "code_contests": "LiveCodeBench's results (site without a licence file; submissions MIT)",
    "japanese_chat": "Shaberi (Apache-2.0)",
    "reasoning_lengths": "LRMTokenEconomy (Apache-2.0)",
    "trick_questions": "MisguidedAttention (CC0)",
    "published_scores": "public tables, each row with its repository, path and commit",
}


def main() -> None:
    """Run the command."""
    folder = Path(sys.argv[1])
    recorded: dict[str, dict[str, object]] = {}
    questions: dict[str, int] = {}
    for name, source in SOURCES.items():
        path = folder / f"{name}.parquet"
        entry = {"file": path.name, "source": source, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        if name in BUILDERS:
            rows = Rows.read(path)
            entry["models"] = rows.summary()
            for row in rows.rows:
                board, number = _number(row[0])
                questions[board] = questions.get(board, 0) | 1 << number
        recorded[name] = entry
    _write("sets.json", recorded)
    _write("questions.json", {board: f"{bits:x}" for board, bits in questions.items()})
    shutil.copyfile(folder / "prices.csv", HERE / "prices.csv")


def _number(query_id: str) -> tuple[str, int]:
    """Return the board of a question and its number there."""
    prefix, _, number = query_id.rpartition("/") if "/" in query_id else query_id.rpartition("-")
    board = {"zeroeval-gsm8k": "gsm", "zeroeval-math-l5": "math-l5", "zeroeval-crux": "crux"}.get(
        prefix, prefix
    )
    return board, int(number)


def _write(name: str, content: object) -> None:
    (HERE / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
