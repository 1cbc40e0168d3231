"""The sets: which rows of which sources, in the form that everything here reads."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import tiktoken
from grading import chosen_letter, same_literal, same_number, stated_answer
from sources import SourceError, Sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
COLUMNS = ("query_id", "dataset", "query", "model", "quality", "input_tokens", "output_tokens", "cost_usd")
JOINT = {
    "llama-3.1-70b": ("Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-70B-Instruct"),
    "llama-3.1-8b": ("Meta-Llama-3.1-8B-Instruct", "Meta-Llama-3.1-8B-Instruct"),
    "deepseek-v2": ("deepseek-chat-v2", "deepseek-v2.5-0908"),
    "gemini-1.5-flash": ("gemini-1.5-flash-002", "gemini-1.5-flash"),
    "gemini-1.5-pro": ("gemini-1.5-pro-002", "gemini-1.5-pro"),
    "gpt-4o": ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
}
"""A model of the joint set, by the release of it that each source asked."""
_HEAD, _TAIL = "## Question: \n\n", "\n\n\n## Instruction"


@dataclass
class Rows:
    """Rows of a set, each in the order of `COLUMNS`."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Rows:
        """Read a Parquet file."""
        columns = pq.read_table(path, columns=list(COLUMNS)).to_pydict()
        return cls(list(zip(*(columns[name] for name in COLUMNS), strict=True)))

    def summary(self) -> dict[str, tuple[str, float, int]]:
        """Return for each model a digest of its rows without grades, the sum of these, and the count."""
        by_model: dict[str, list[tuple[Any, ...]]] = {}
        for row in self.rows:
            by_model.setdefault(row[3], []).append(row)
        found = {}
        for model, rows in by_model.items():
            lines = sorted(
                "\t".join((row[0], row[1], row[2], str(row[5]), str(row[6]), f"{row[7]:.9g}")) for row in rows
            )
            digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
            found[model] = (digest, round(sum(float(row[4]) for row in rows), 3), len(rows))
        return found


@dataclass
class Built:
    """A set, and what of it could not be had."""

    rows: Rows = field(default_factory=Rows)
    missing: list[str] = field(default_factory=list)


def write_set(path: Path, rows: Rows) -> None:
    """Write a set as Parquet, whole or not at all."""
    text = pa.string()
    types = (text, text, text, text, pa.float32(), pa.int32(), pa.int32(), pa.float64())
    columns = list(zip(*rows.rows, strict=True)) or [()] * len(COLUMNS)
    table = pa.table(
        [pa.array(column, type=kind) for column, kind in zip(columns, types, strict=True)],
        names=list(COLUMNS),
    )
    beside = path.with_suffix(".part")
    pq.write_table(table, beside)
    beside.replace(path)


def _count() -> Callable[[str], int]:
    encoding = tiktoken.get_encoding("cl100k_base")
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def _prices() -> dict[tuple[str, str], tuple[float, float]]:
    with (HERE / "prices.csv").open(encoding="utf-8", newline="") as stream:
        return {
            (row["file"], row["model"]): (
                float(row["usd_per_million_input"]),
                float(row["usd_per_million_output"]),
            )
            for row in csv.DictReader(stream)
            if row["usd_per_million_input"]
        }


def _questions(name: str) -> set[int]:
    """Return the numbers of a board's questions: bit n of a hexadecimal number stands for question n."""
    bits = int(json.loads((HERE / "questions.json").read_text(encoding="utf-8"))[name], 16)
    return {number for number in range(bits.bit_length()) if bits >> number & 1}


def _gather(
    sources: Sources, source: str, board: str, read: Callable[[str], Iterator[tuple[Any, ...]]], built: Built
) -> None:
    """Add the rows of every model of a board; `read` yields them without their costs."""
    prices = _prices()
    for name in sources.table[source]["files"]:
        if not name.startswith(f"{board}/"):
            continue
        model = name.partition("/")[2]
        paid, written = prices[source, model]
        try:
            for row in read(name):
                cost = (row[4] * paid + row[5] * written) / 1e6
                built.rows.rows.append((*row[:3], model, *row[3:], cost))
        except SourceError as error:
            built.missing.append(f"{model} is left out: {error}")


def knowledge_qa(sources: Sources) -> Built:
    """MMLU-Pro: questions of 14 subjects with up to ten options."""
    count, wanted, built = _count(), _questions("mmlu_pro"), Built()

    def read(name: str) -> Iterator[tuple[Any, ...]]:
        with zipfile.ZipFile(io.BytesIO(sources.read("mmlu_pro", name))) as packed:
            listed = json.loads(packed.read(packed.namelist()[0]))
        for item in listed:
            if item["question_id"] not in wanted:
                continue
            options = (f"({chr(ord('A') + at)}) {option}" for at, option in enumerate(item["options"]))
            query = "\n".join((item["question"].strip(), *options))
            said = item.get("model_outputs", item.get("generated_text")) or ""
            right = chosen_letter(item["pred"], said) == item["answer"]
            place = f"mmlu_pro-{item['question_id']:05d}", f"mmlu_pro/{item['category'].replace(' ', '_')}"
            yield (*place, query, float(right), count(query), count(said))

    _gather(sources, "mmlu_pro", "mmlu_pro", read, built)
    return built


def _zeroeval(sources: Sources, built: Built, board: str, dataset: str, grade: Callable[..., bool]) -> None:
    count, wanted = _count(), _questions(board)
    prefix = {"gsm": "zeroeval-gsm8k", "math-l5": "zeroeval-math-l5", "crux": "zeroeval-crux"}[board]

    def read(name: str) -> Iterator[tuple[Any, ...]]:
        for item in json.loads(sources.read("zeroeval", name)):
            number = int(str(item["session_id"]).rpartition("#")[2])
            if number not in wanted:
                continue
            asked, said = item["chat_history"][0], item["output"][0]
            query = asked.split(_HEAD, 1)[1].split(_TAIL, 1)[0].strip()
            right = grade(stated_answer(said), str(item["answer"]))
            yield f"{prefix}/{number}", dataset, query, float(right), count(asked), count(said)

    _gather(sources, "zeroeval", board, read, built)


def math_reasoning(sources: Sources) -> Built:
    """GSM8K and MATH level 5."""
    built = Built()
    _zeroeval(sources, built, "gsm", "gsm8k", same_number)
    _zeroeval(sources, built, "math-l5", "math_l5", same_number)
    return built


def code_execution(sources: Sources) -> Built:
    """CRUXEval: what a short function returns."""
    built = Built()
    _zeroeval(sources, built, "crux", "cruxeval_output", same_literal)
    return built


def qaserve_public(sources: Sources) -> Built:
    """Join the first two: six models on their questions."""
    knowledge, reasoning = knowledge_qa(sources), math_reasoning(sources)
    built = Built(missing=knowledge.missing + reasoning.missing)
    for model, names in JOINT.items():
        for name, part in zip(names, (knowledge, reasoning), strict=True):
            for row in part.rows.rows:
                if row[3] == name:
                    built.rows.rows.append((*row[:3], model, *row[4:]))
    return built


BUILDERS: dict[str, Callable[[Sources], Built]] = {
    "qaserve_public": qaserve_public,
    "knowledge_qa": knowledge_qa,
    "math_reasoning": math_reasoning,
    "code_execution": code_execution,
}
"""What is built from its sources; other sets are checked alone."""
