"""A table of one's own, one row per (query, model), under the names that people give its columns."""

from __future__ import annotations

import csv
import json

import pytest

from eccos_rs.errors import RecordError
from eccos_rs.records.importers import ImportOptions, detect_format, import_records

PRICES = {"a": (1.0, 4.0), "b": (10.0, 40.0)}


def written(path, rows):
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
@pytest.mark.parametrize(
    "names",
    [
        ("prompt", "model_name", "score", "completion_tokens", "prompt_tokens", "cost"),
        ("question", "llm", "is_correct", "output_tokens", "input_tokens", "total_cost"),
        ("Instruction", "Model", "Passed", "response_tokens", "num_input_tokens", "cost_usd"),
    ],
)
def test_the_usual_names_are_understood(tmp_path, name, names):
    rows = [
        {**dict(zip(names, (text, who, right, 50, 20, 0.01), strict=True)), "note": "x"}
        for text in ("What is 1 + 1?", "Où ?")
        for who, right in (("a", 0), ("b", 1))
    ]
    path = written(tmp_path / name, rows)
    assert detect_format(path) == "long"
    first, second = import_records(path)
    assert (first.query, second.query, first.dataset) == ("What is 1 + 1?", "Où ?", "own")
    assert [(o.model, o.quality, o.output_tokens, o.cost_usd) for o in first.outputs] == [
        ("a", 0.0, 50, 0.01),
        ("b", 1.0, 50, 0.01),
    ]
    assert first.input_tokens == 20


@pytest.mark.parametrize(
    ("cell", "quality"),
    [
        (True, 1.0),
        (False, 0.0),
        ("true", 1.0),
        ("No", 0.0),
        ("correct", 1.0),
        ("Fail", 0.0),
        ("0.25", 0.25),
        (1, 1.0),
    ],
)
def test_grades_may_be_words(tmp_path, cell, quality):
    path = written(
        tmp_path / "t.jsonl",
        [{"prompt": "x", "model": "a", "correct": cell, "response": "four words are here"}],
    )
    (record,) = import_records(path, prices=PRICES)
    assert record.outputs[0].quality == quality
    assert record.outputs[0].cost_usd > 0


def test_one_text_in_two_datasets_or_under_two_ids_is_two_queries(tmp_path):
    rows = [
        {
            "prompt": "x",
            "task": task,
            "question_id": at,
            "model": "a",
            "score": 1,
            "output_tokens": 1,
            "cost": 1,
        }
        for task, at in (("one", 1), ("two", 1), ("two", 2))
    ]
    found = list(import_records(written(tmp_path / "t.csv", rows)))
    assert [record.dataset for record in found] == ["one", "two", "two"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"score": "great"}, "row 1, column 'score'"),
        ({"score": 7}, "quality-scale 10"),
        ({"score": None}, "row 1, column 'score'"),
        ({"model": ""}, "row 1, column 'model'"),
        ({"prompt": None}, "row 1, column 'prompt'"),
        ({"output_tokens": -1}, "row 1, column 'output_tokens'"),
        ({"output_tokens": None}, "no answer lengths"),
        ({"cost": None}, "model 'a' has neither"),
    ],
)
def test_bad_rows_are_told_under_the_file_s_own_names(tmp_path, changes, sentence):
    row = {"prompt": "x", "model": "a", "score": 1, "output_tokens": 5, "cost": 0.1} | changes
    path = written(tmp_path / "t.jsonl", [row, {**row, "prompt": "y"}])
    with pytest.raises(RecordError, match=sentence):
        list(import_records(path, form="long"))


def test_one_scale_for_all(tmp_path):
    rows = [{"prompt": "x", "model": m, "rating": r, "response": "y"} for m, r in (("a", 10), ("b", 4))]
    (record,) = import_records(
        written(tmp_path / "t.csv", rows), prices=PRICES, options=ImportOptions(quality_scale=10.0)
    )
    assert [o.quality for o in record.outputs] == [1.0, 0.4]


def test_what_is_missing_is_named(tmp_path):
    path = written(tmp_path / "t.csv", [{"prompt": "x", "model_a": "a", "model_b": "b", "winner": "a"}])
    with pytest.raises(RecordError, match="wanted at least a query, a model and its score in each row"):
        list(import_records(path))
    with pytest.raises(RecordError, match="no column is called 'model' or 'model_name'"):
        list(import_records(path, form="long"))
