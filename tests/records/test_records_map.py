"""Columns under a file's own names: `eccos import --map`, `read_records(columns=...)`; and out to pandas."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from eccos_rs.cli.main import main
from eccos_rs.errors import RecordError
from eccos_rs.records import Output, Record, RecordTable, read_records
from eccos_rs.records.columns import ColumnMap

ROWS = [
    {"row": "1", "prompt": "What is 2 + 2?", "llm": "a", "score": 1, "tin": 8, "tout": 3, "paid": 0.001},
    {"row": "1", "prompt": "What is 2 + 2?", "llm": "b", "score": 0, "tin": 8, "tout": 5, "paid": 0.002},
    {"row": "2", "prompt": "Capital of Peru?", "llm": "a", "score": 0, "tin": 6, "tout": 4, "paid": 0.003},
]
PAIRS = [
    "prompt=query", "row=query_id", "llm=model", "score=quality", "tin=input_tokens", "tout=output_tokens",
    "paid=cost_usd",
]  # fmt: skip
FLAGS = [word for pair in PAIRS for word in ("--map", pair)]


def run(*arguments):
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return left.value.code


@pytest.fixture(params=[".csv", ".jsonl", ".parquet"])
def mine(request, tmp_path):
    path = tmp_path / f"mine{request.param}"
    frame = pd.DataFrame(ROWS)
    if request.param == ".csv":
        frame.to_csv(path, index=False)
    elif request.param == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        frame.to_parquet(path)
    return path


def test_a_files_own_names_are_mapped(mine, tmp_path):
    out = tmp_path / "records.jsonl"
    assert run("import", mine, *FLAGS, "--dataset", "sums", "-o", out) == 0
    assert list(read_records(out)) == [
        Record("What is 2 + 2?", "sums", 8, (Output("a", 1.0, 3, 0.001), Output("b", 0.0, 5, 0.002)), "1"),
        Record("Capital of Peru?", "sums", 6, (Output("a", 0.0, 4, 0.003),), "2"),
    ]


def test_scattered_rows_are_gathered_by_the_mapped_id(tmp_path):
    path = tmp_path / "mine.parquet"
    pd.DataFrame([ROWS[0], ROWS[2], ROWS[1]]).to_parquet(path)
    columns = ColumnMap(ColumnMap.parse(PAIRS).names, dataset="sums")
    assert [len(record.outputs) for record in read_records(path, columns=columns)] == [2, 1]


def test_one_column_may_stand_for_two_fields_and_pairs_may_share_an_option(tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({key: value for key, value in ROWS[0].items() if key != "row"}))
    pairs = ",".join([*(pair for pair in PAIRS if "row" not in pair), "prompt=query_id"])
    assert run("import", path, "--map", pairs, "--dataset", "sums", "--json") == 0
    assert json.loads(capsys.readouterr().out)["queries"] == 1


def test_names_inside_the_outputs_of_a_record_are_mapped(tmp_path):
    path = tmp_path / "mine.jsonl"
    outputs = [{"llm": "a", "score": 0.5, "output_tokens": 3, "cost_usd": 0.001}]
    row = {"prompt": "2 + 2?", "dataset": "sums", "input_tokens": 4, "answers": outputs}
    path.write_text(json.dumps(row))
    pairs = ["prompt=query", "answers=outputs", "llm=outputs.model", "score=outputs.quality"]
    found = list(read_records(path, columns=ColumnMap.parse(pairs)))
    assert found == [Record("2 + 2?", "sums", 4, (Output("a", 0.5, 3, 0.001),))]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--map", "prompt"], "map: got 'prompt', wanted COLUMN=FIELD, the file's name first (prompt=query)"),
        (["--map", "prompt=qery"], "map: 'qery' is no column of a record; did you mean 'query'?"),
        (["--map", "prompt=query,row=query"], "map: got two columns for query: 'prompt' and 'row'"),
        (
            ["--map", "promt=query", *FLAGS[2:]],
            "no column 'promt' to take query from; did you mean 'prompt'?",
        ),
        ([*FLAGS, "--map", "tin=outputs", "--format", "routerbench"], "has columns of its own"),
    ],
)
def test_a_bad_map_is_told(flags, words, tmp_path, capsys):
    path = tmp_path / "mine.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    assert run("import", path, *flags, "--dataset", "sums") == 1
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    pd.DataFrame([{**row, "query": "other"} for row in ROWS]).to_csv(path, index=False)
    with pytest.raises(RecordError, match="query is taken from 'prompt', and there is a column 'query' too"):
        list(read_records(path, columns=ColumnMap.parse(PAIRS)))


def test_a_table_as_a_data_frame_is_read_again(tmp_path):
    outputs = (Output("a", 1.0, 3, 0.001), Output("b", 0.25, 5, 0.002, input_tokens=9))
    some = [Record("one?", "d", 8, outputs, "x"), Record("two?", "d", 6, outputs[:1], "y")]
    table = RecordTable.from_records(some)
    frame = table.to_pandas()
    assert len(frame) == 3
    assert frame.dtypes["output_tokens"] == np.int64
    frame.to_parquet(tmp_path / "again.parquet")
    again = RecordTable.read(tmp_path / "again.parquet")
    assert again.models == table.models
    np.testing.assert_array_equal(again.quality, table.quality)
    np.testing.assert_array_equal(again.prompt_tokens[0], table.prompt_tokens[0])
    assert RecordTable.from_records([]).to_pandas().empty
