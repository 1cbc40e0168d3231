"""`eccos route` on every form of file: rows from lines, own columns kept, nothing capped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest

from eccos_rs import QueryError, route
from eccos_rs.bulk.queries import RowReader, read_query_rows
from eccos_rs.cli.main import main

ROWS = [
    {"id": "a", "query": "What is 2 + 2?", "team": "red", "model": "gpt-4"},
    {"id": "b", "query": 'Name a river,\nand a "sea".', "team": "blue", "model": "gpt-4"},
]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code or 0


def texts(path, **options):
    return [row.query.prompt for row in read_query_rows(path, RowReader(**options))]


def forms() -> dict[str, bytes]:
    frame, made = pd.DataFrame(ROWS), {}
    made["lines"] = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    made["pretty"] = json.dumps(ROWS, indent=2).encode()
    made["one-line"] = json.dumps(ROWS).encode()
    made["bom"] = b"\xef\xbb\xbf" + made["lines"]
    made["csv"] = frame.to_csv(index=False).encode()
    made["csv-with-index"] = frame.to_csv().encode()
    made["excel"] = frame.to_csv(index=False, sep=";").encode("utf-8-sig")
    made["tsv"] = frame.to_csv(index=False, sep="\t").encode()
    made["utf-16"] = frame.to_csv(index=False, sep="\t").encode("utf-16")
    stream = io.BytesIO()
    frame.set_index(pd.Index([3, 4])).to_parquet(stream)
    made["parquet"] = stream.getvalue()
    return made


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ""])
@pytest.mark.parametrize("form", forms())
def test_rows_are_read_under_any_suffix(tmp_path, form, suffix):
    path = tmp_path / f"log{suffix}"
    path.write_bytes(forms()[form])
    rows = list(read_query_rows(path))
    assert [row.query.prompt for row in rows] == [row["query"] for row in ROWS]
    assert [row.query.id for row in rows] == ["a", "b"]
    assert [row.own["team"] for row in rows] == ["red", "blue"]
    assert not any("Unnamed" in name or "index" in name or not name for row in rows for name in row.own)


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
@pytest.mark.parametrize("form", ["lines", "csv", "pretty"])
def test_packed_files_are_unpacked_by_content(tmp_path, packing, form):
    whole = forms()[form]
    packed = gzip.compress(whole) if packing == "gzip" else pa.compress(whole, codec="zstd", asbytes=True)
    for name in ("log.bin", f"log.{'gz' if packing == 'gzip' else 'zst'}"):
        (tmp_path / name).write_bytes(packed)
        assert texts(tmp_path / name) == [row["query"] for row in ROWS]


def test_prose_stays_prose(tmp_path):
    lines = ["What is it, then?", "[1, 2] is a list.", "query, text and prompt are words", '"Quoted" speech']
    for first in range(len(lines)):
        turned = lines[first:] + lines[:first]
        (tmp_path / "a.txt").write_text("\n".join(turned))
        assert texts(tmp_path / "a.txt") == turned


def test_a_column_may_have_any_name(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("nr,question\n1,What is 2 + 2?\n2,Name a river\n")
    with pytest.raises(QueryError, match=r"row 1: no column holds the query.*--column.*'nr', 'question'"):
        texts(tmp_path / "a.csv")
    assert texts(tmp_path / "a.csv", column="question") == ["What is 2 + 2?", "Name a river"]
    with pytest.raises(QueryError, match="there is no column 'frage'"):
        texts(tmp_path / "a.csv", column="frage")
    assert run("route", tmp_path / "a.csv") == 1
    assert "--column" in capsys.readouterr().err
    (tmp_path / "one.csv").write_text("question\nWhat is 2 + 2?\nName a river\n")
    assert texts(tmp_path / "one.csv") == ["What is 2 + 2?", "Name a river"]


BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "temperature": 0}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


@pytest.mark.parametrize(
    ("row", "prompt", "name", "limit"),
    [
        (BODY, "Hi", None, 5),
        ({**BODY, "max_completion_tokens": 7}, "Hi", None, 7),
        ({**BODY, "max_completion_tokens": None}, "Hi", None, 5),
        ({"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": BODY}, "Hi", "r1", 5),
        ({"model": "m", "prompt": "Say it", "max_tokens": 9}, "Say it", None, 9),
        ({"model": "m", "input": "Ask", "instructions": "Be short."}, "Ask\n\nBe short.", None, None),
        (
            {"request_id": "x", "call_type": "acompletion", "spend": 0.1, "messages": BODY["messages"]},
            "Hi",
            "x",
            None,
        ),
        (
            {"request_id": "y", "spend": 0.1, "messages": "{}", "proxy_server_request": json.dumps(BODY)},
            "Hi",
            "y",
            5,
        ),
    ],
)
def test_requests_and_logs_are_read_as_they_are(tmp_path, row, prompt, name, limit):
    (tmp_path / "log.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_query_rows(tmp_path / "log.jsonl")
    assert (read.query.prompt, read.query.id, read.query.max_output_tokens) == (prompt, name, limit)
    assert read.own.keys() == row.keys()


def test_a_request_with_tools_needs_a_model_with_tools(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({**BODY, "tools": [TOOL]}) + "\n")
    (read,) = read_query_rows(tmp_path / "log.jsonl")
    assert read.query.tools


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"custom_id": "e", "url": "/v1/embeddings", "body": {"input": "x"}}, "requests for chats and texts"),
        ({"custom_id": "e", "url": "/v1/chat/completions"}, "needs a body"),
        ({"request_id": "z", "spend": 0.1, "messages": "{}"}, "store_prompts_in_spend_logs"),
        ({"query": "x", "min_qualty": 0.5}, "did you mean 'min_quality'.*--own min_qualty"),
        ({"query": None}, "is empty"),
    ],
)
def test_what_cannot_be_a_query_is_named_by_its_line(tmp_path, row, problem):
    (tmp_path / "log.jsonl").write_text('"fine"\n' + json.dumps(row) + "\n")
    with pytest.raises(QueryError, match=rf"log\.jsonl, line 2: .*{problem}"):
        texts(tmp_path / "log.jsonl")
    if "min_qualty" in row:
        assert texts(tmp_path / "log.jsonl", own=("min_qualty",)) == ["fine", "x"]


def test_own_columns_and_ids_pass_through(tmp_path):
    import pyarrow.parquet as pq

    (tmp_path / "log.csv").write_bytes(forms()["csv"])
    assert run("route", tmp_path / "log.csv", "-f", "jsonl", "-o", tmp_path / "plan.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "plan.jsonl").read_text().splitlines()]
    assert [(row["id"], row["team"], row["given_model"]) for row in rows] == [
        ("a", "red", "gpt-4"),
        ("b", "blue", "gpt-4"),
    ]
    assert rows[0]["model"] != "gpt-4"
    assert run("route", tmp_path / "log.csv", "-f", "parquet", "-o", tmp_path / "plan.parquet") == 0
    assert pq.read_table(tmp_path / "plan.parquet").to_pylist()[1]["team"] == "blue"


@pytest.mark.parametrize(
    ("name", "begins"),
    [("p.jsonl", "{"), ("p.NDJSON", "{"), ("p.json", "{\n"), ("p.csv", "index,"), ("p.txt", " "), ("p", " ")],
)
def test_the_name_of_the_output_says_its_format(tmp_path, name, begins):
    (tmp_path / "log.csv").write_text('query,team\n"What is 1 + 1?",red\n', encoding="utf-8")
    assert run("route", tmp_path / "log.csv", "-o", tmp_path / name) == 0
    assert (tmp_path / name).read_text("utf-8").startswith(begins)
    assert run("route", tmp_path / "log.csv", "-f", "jsonl", "-o", tmp_path / name) == 0
    assert (tmp_path / name).read_text("utf-8").startswith("{")


def test_csv_holds_the_columns_and_nested_cells_as_json(tmp_path):
    rows = [
        {"query": 'Say "a, b".\nTwice.', "team": "red", "tags": ["x", "y"]},
        {"messages": [{"role": "user", "content": "Où ?"}], "team": None},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run("route", tmp_path / "log.jsonl", "-o", tmp_path / "plan.csv") == 0
    with (tmp_path / "plan.csv").open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert (first["query"], first["team"], json.loads(first["tags"])) == (rows[0]["query"], "red", ["x", "y"])
    assert (json.loads(second["messages"]), second["team"], second["tags"]) == (rows[1]["messages"], "", "")
    assert 0.0 < float(first["quality"]) < 1.0


def test_lone_surrogates_of_any_field_are_replaced(tmp_path):
    row = r'{"query": "x\ud800", "id": "a\ud83d", "group": "\udc00", "team": "\ud83d\ude00 \ud83d"}'
    (tmp_path / "log.jsonl").write_text(row + "\n")
    assert run("route", tmp_path / "log.jsonl", "-f", "jsonl", "-o", tmp_path / "plan.jsonl") == 0
    (told,) = [
        json.loads(line) for line in (tmp_path / "plan.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert (told["query"], told["id"], told["group"], told["team"]) == (
        "x\ufffd",
        "a\ufffd",
        "\ufffd",
        "\U0001f600 \ufffd",
    )


@pytest.mark.parametrize("form", ["table", "json", "jsonl"])
def test_standard_output_may_be_of_any_encoding(tmp_path, form):
    (tmp_path / "q.txt").write_text("Où est la mer ?\n", encoding="utf-8")
    line = [sys.executable, "-m", "eccos_rs.cli.main", "route", str(tmp_path / "q.txt"), "-f", form]
    done = subprocess.run(
        line, env={"PYTHONIOENCODING": "ascii", "PATH": ""}, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    if form != "table":
        told = json.loads(done.stdout)
        assert (told["rows"][0] if form == "json" else told)["query"] == "Où est la mer ?"


def test_limits_of_live_traffic_do_not_cap_a_file(tmp_path, capsys):
    import re

    from eccos_rs import Router

    pool = Router.load().pool.to_toml()
    assert "slots" not in pool
    (tmp_path / "pool.toml").write_text(
        "\ufeff" + re.sub(r"(?m)^name = .*$", r"\g<0>\nslots = 1", pool), encoding="utf-8"
    )
    (tmp_path / "q.txt").write_text("\n".join(f"What is {n} + {n}?" for n in range(20)))
    arguments = ("route", tmp_path / "q.txt", "--pool", tmp_path / "pool.toml", "-f", "jsonl")
    assert run(*arguments) == 0
    assert "deferred" not in capsys.readouterr().err
    assert run(*arguments, "--live-limits") == 3
    err = " ".join(capsys.readouterr().err.split())
    assert "14 of 20 queries deferred; full: " in err
    assert "gpt-4o (1 of 1)" in err


def test_a_data_frame_is_its_rows():
    frame = pd.DataFrame(
        {"query": ["a", "b", "c"], "id": [1.0, None, 3.0], "max_output_tokens": [5, None, None]}
    )
    for batch in (frame, frame.to_dict("records"), pa.Table.from_pandas(frame)):
        plan = route(batch, min_quality=0.5)
        assert [query.text for query in plan.queries] == ["a", "b", "c"]
        assert [query.id for query in plan.queries] == ["1", None, "3"]
        assert [query.max_output_tokens for query in plan.queries] == [5, None, None]
    assert len(route(frame["query"], min_quality=0.5)) == 3
    with pytest.raises(QueryError, match=r"query 0: .*max_output_tokens must be an int.*5\.5"):
        route(pd.DataFrame({"query": ["a"], "max_output_tokens": [5.5]}))
    with pytest.raises(QueryError, match="unknown key 'team'"):
        route(pd.DataFrame({"query": ["a"], "team": ["red"]}))
