"""Reading and writing records: both forms, every file form, and what is refused where."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_rs.errors import EccosError, RecordError
from eccos_rs.records import Output, Record, read_records, write_records
from eccos_rs.records.seen import FRESH, SeenIds
from tests.helpers.paths import DATA

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = DATA / "formats"
PRICES = {"ant-small": (0.1, 0.4), "ant-large": (2.0, 8.0)}


def record_row(**changes: Any) -> dict[str, Any]:
    row = {
        "id": "q1",
        "query": "How many legs has an ant?",
        "dataset": "insects",
        "input_tokens": 7,
        "outputs": [{"model": "a", "quality": 1.0, "output_tokens": 3, "cost_usd": 0.001}],
    }
    return {name: value for name, value in {**row, **changes}.items() if value is not ...}


def output_row(**changes: Any) -> dict[str, Any]:
    answer = {**record_row()["outputs"][0], **changes}
    return record_row(outputs=[{name: value for name, value in answer.items() if value is not ...}])


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_both_forms_say_the_same():
    """The two files hold the same facts, one of them scattered model by model."""
    records = list(read_records(FORMATS / "records.jsonl"))
    assert [record.id for record in records] == ["g1", "g2", "g3"]
    assert records[0].outputs[1] == Output("ant-large", 1.0, 20, 0.000176)
    assert list(read_records(FORMATS / "tidy.csv")) == records


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.gz", "r.parquet"])
@pytest.mark.parametrize("form", ["record", "tidy"])
def test_what_is_written_is_read_back(tmp_path, name, form):
    records = list(read_records(FORMATS / "records.jsonl"))
    assert write_records(tmp_path / name, iter(records), form=form) == 3
    assert list(read_records(tmp_path / name)) == records
    assert [path.name for path in tmp_path.iterdir()] == [name]


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
outputs = st.lists(
    st.builds(
        Output,
        texts,
        st.floats(0, 1),
        st.integers(0, 10**9),
        st.floats(0, 1e6, allow_nan=False),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda output: output.model,
).map(tuple)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.builds(Record, texts, texts, st.integers(0, 10**9), outputs), max_size=4))
def test_any_record_survives_a_file(tmp_path_factory, records):
    folder = tmp_path_factory.mktemp("any")
    for name in ("r.jsonl", "r.parquet"):
        write_records(folder / name, records)
        assert list(read_records(folder / name)) == records


@pytest.mark.parametrize(
    ("row", "column", "problem"),
    [
        (record_row(query=...), "'query'", "missing"),
        (record_row(query="  "), "'query'", "empty"),
        (record_row(query=7), "'query'", "wanted a text"),
        (record_row(dataset=None), "'dataset'", "wanted a text"),
        (record_row(input_tokens=-1), "'input_tokens'", "0 or more"),
        (record_row(input_tokens=2.5), "'input_tokens'", "whole number"),
        (record_row(input_tokens="many"), "'input_tokens'", "wanted a number"),
        (record_row(outputs=[]), "'outputs'", "at least one"),
        (record_row(outputs="a"), "'outputs'", "a list"),
        (record_row(outputs=["a"]), "'outputs'", "wanted an object"),
        (record_row(outputs=record_row()["outputs"] * 2), "'outputs'", "model 'a' stands there twice"),
        (record_row(extra=1), "'extra'", "nobody knows this column"),
        (record_row(datset="x"), "'datset'", "did you mean 'dataset'"),
        (output_row(quality=float("nan")), "'outputs[0].quality'", "got nan, wanted a finite number"),
        (output_row(quality=None), "'outputs[0].quality'", "missing"),
        (output_row(quality="good"), "'outputs[0].quality'", "wanted a number"),
        (output_row(quality=-0.5), "'outputs[0].quality'", "[0, 1]"),
        (output_row(quality=7), "'outputs[0].quality'", "--quality-scale 10"),
        (output_row(quality=88), "'outputs[0].quality'", "--quality-scale 100"),
        (output_row(quality=10**400), "'outputs[0].quality'", "finite"),
        (output_row(output_tokens=-3), "'outputs[0].output_tokens'", "0 or more"),
        (output_row(cost_usd=-0.1), "'outputs[0].cost_usd'", "0 or more"),
        (output_row(cost_usd=None), "'outputs[0].cost_usd'", "never taken as 0"),
        (output_row(model=""), "'outputs[0].model'", "empty"),
        (output_row(colour="red"), "'outputs[0].colour'", "nobody knows"),
    ],
)
def test_a_mistake_is_named_with_row_and_column(tmp_path, row, column, problem):
    path = write_rows(tmp_path / "bad.jsonl", [record_row(id="fine"), row])
    with pytest.raises(RecordError) as caught:
        list(read_records(path))
    message = str(caught.value)
    assert message.startswith(f"bad.jsonl, row 2, column {column}"), message
    assert problem in message
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, EccosError)


def test_an_id_twice_names_both_rows(tmp_path):
    path = write_rows(tmp_path / "r.jsonl", [record_row(), record_row(id="other"), record_row()])
    with pytest.raises(RecordError, match=r"row 3, column 'id'.*'q1' stands in row 1 already"):
        list(read_records(path))


def test_records_without_ids_are_fine(tmp_path):
    path = write_rows(tmp_path / "r.jsonl", [record_row(id=...), record_row(id=...)])
    assert [record.id for record in read_records(path)] == [None, None]


def test_ids_are_remembered_beyond_the_fresh_ones():
    from eccos_rs.records.check import Place

    seen = SeenIds()
    for row in range(1, 3 * FRESH):
        seen.add(f"id {row}", Place("big", row))
    assert seen.find_row("id 5") == 5
    assert seen.find_row(f"id {2 * FRESH}") == 2 * FRESH
    assert seen.find_row("another") is None
    with pytest.raises(RecordError, match="stands in row 77 already"):
        seen.add("id 77", Place("big", 3 * FRESH))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"query": "half of a', r"row 2: is not valid JSON.*ends in the middle"),
        ("[1, 2]\n", r"row 2: got a JSON list"),
        ("\xff\n", r"is not UTF-8|not valid JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path, content, problem):
    path = tmp_path / "r.jsonl"
    path.write_bytes((json.dumps(record_row()) + "\n").encode() + content.encode("latin-1"))
    with pytest.raises(RecordError, match=problem):
        list(read_records(path))


def test_a_cut_gzip_and_a_false_parquet_are_named(tmp_path):
    whole = gzip.compress(b"".join(json.dumps(record_row(id=str(i))).encode() + b"\n" for i in range(500)))
    (tmp_path / "r.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordError, match="cut off or broken"):
        list(read_records(tmp_path / "r.jsonl.gz"))
    (tmp_path / "r.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RecordError, match="is not a Parquet file, or is damaged"):
        list(read_records(tmp_path / "r.parquet"))


def test_a_pickle_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "routerbench_0shot.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch /tmp/no'\ntR.")
    with pytest.raises(RecordError, match=r"runs code.*read_pickle\('routerbench_0shot.pkl'\)"):
        list(read_records(path))


@pytest.mark.parametrize("name", ["missing.jsonl", "notes.txt", "nothing"])
def test_what_cannot_be_a_data_set(tmp_path, name):
    with pytest.raises(RecordError, match=r"no such file|is not read"):
        list(read_records(tmp_path / name))


def test_a_scale_is_divided_out_and_columns_can_be_left_out(tmp_path):
    path = write_rows(tmp_path / "r.jsonl", [{**output_row(quality=7), "extra": 1, "more": 2}])
    with pytest.raises(RecordError, match="extra"):
        list(read_records(path, quality_scale=10))
    for ignore in (["extra", "more"], "*"):
        (record,) = read_records(path, quality_scale=10, ignore=ignore)
        assert record.outputs[0].quality == pytest.approx(0.7)
    with pytest.raises(RecordError, match=r"got 0, wanted a positive number"):
        list(read_records(path, quality_scale=0))


def test_a_missing_cost_is_priced_or_refused(tmp_path):
    path = write_rows(tmp_path / "r.jsonl", [output_row(cost_usd=...)])
    (record,) = read_records(path, prices={"a": (2.0, 8.0)})
    assert record.outputs[0].cost_usd == pytest.approx((7 * 2 + 3 * 8) / 1e6)
    with pytest.raises(
        RecordError, match=r"model 'a' has neither a cost here nor a price \(it is not in the"
    ):
        list(read_records(path, prices={"b": (2.0, 8.0)}))


def test_bad_rows_can_be_passed_on(tmp_path):
    problems: list[RecordError] = []
    path = write_rows(tmp_path / "r.jsonl", [output_row(quality=2), record_row(), output_row(quality=3)])
    records = list(read_records(path, on_error=problems.append))
    assert len(records) == 1
    assert [str(problem).split(",")[1] for problem in problems] == [" row 1", " row 3"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"quality": "nan"}, r"row 3, column 'quality'.*finite"),
        ({"model": "ant-small"}, r"row 3, column 'model': query 'g1' has model 'ant-small' twice"),
        ({"query": "Another text?"}, r"row 3, column 'query': .*rows of one query must agree"),
        ({"cost_usd": ""}, r"row 3, column 'cost_usd'.*neither a cost"),
        ({"query_id": ""}, r"row 3, column 'id'|row 3, column 'query_id'"),
    ],
)
def test_tidy_mistakes_are_named(tmp_path, change, problem):
    import csv

    with (FORMATS / "tidy.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_query = sorted(rows, key=lambda row: row["query_id"])
    by_query.insert(2, {**by_query[1], **change})
    with (tmp_path / "tidy.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, by_query[0])
        writer.writeheader()
        writer.writerows(by_query)
    with pytest.raises(RecordError, match=problem):
        list(read_records(tmp_path / "tidy.csv"))


def test_a_csv_that_lost_a_cell(tmp_path):
    (tmp_path / "t.csv").write_text("query_id,model\n1,a\n2\n")
    with pytest.raises(RecordError, match="row 2: has 1 cells, the header has 2"):
        list(read_records(tmp_path / "t.csv", ignore="*", on_error=lambda _: None))
    (tmp_path / "t.csv").write_text("query_id,query_id\n1,a\n")
    with pytest.raises(RecordError, match="the header names it twice"):
        list(read_records(tmp_path / "t.csv"))


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.jsonl"
    write_records(path, read_records(FORMATS / "records.jsonl"))
    before = path.read_bytes()

    def stops():
        yield from read_records(FORMATS / "records.jsonl")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(path, stops())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["r.jsonl"]


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
@pytest.mark.parametrize(
    ("records", "problem"),
    [
        (
            [Record("q", "d", 1, (Output("a", float("nan"), 1, 0.1),))],
            r"row 1, column 'outputs\[0\].quality'",
        ),
        ([Record("q", "d", 1, (Output("a", 1.0, 1, -0.1),))], r"row 1, column 'outputs\[0\].cost_usd'"),
        ([Record("q", "d", 1, ())], r"row 1, column 'outputs'"),
        ([Record("q", "d", 1, (Output("a", 1.0, 1, 0.1),), "x")] * 2, r"row 2, column 'id'"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, name, records, problem):
    with pytest.raises(RecordError, match=problem):
        write_records(tmp_path / name, records)
    assert list(tmp_path.iterdir()) == []


def test_only_known_suffixes_are_written(tmp_path):
    with pytest.raises(RecordError, match=r"got the suffix '.csv', wanted .jsonl"):
        write_records(tmp_path / "r.csv", [])


@pytest.mark.parametrize("form", ["record", "tidy"])
def test_a_large_file_streams(tmp_path, form):
    """20 MB pass through a few MB of memory, for the ids are all that is kept."""
    text = "long question " * 140
    row = record_row(query=text)
    path = tmp_path / "large.jsonl"
    with path.open("w") as stream:
        for number in range(10_000):
            if form == "record":
                stream.write(json.dumps({**row, "id": str(number)}) + "\n")
            else:
                flat = {
                    "query_id": str(number),
                    "query": text,
                    "dataset": "d",
                    "input_tokens": 400,
                    "model": "a",
                }
                stream.write(json.dumps({**flat, "quality": 1, "output_tokens": 3, "cost_usd": 0.1}) + "\n")
    assert path.stat().st_size > 19e6
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_records(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 10_000
    assert peak < 8e6


def test_real_data_reads_whole(data_dir):
    records = list(read_records(data_dir / "qaserve_public.parquet"))
    assert len(records) == 8292
    assert {len(record.outputs) for record in records} == {6}
