"""Whatever a file holds, it is read or refused with a `RecordError`; nothing else comes out."""

from __future__ import annotations

import gzip
import json
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eccos_rs.errors import RecordError
from eccos_rs.records import read_records, write_records
from eccos_rs.records.collect import read_tasks
from eccos_rs.records.importers import FORMATS, ImportOptions, import_records
from tests.helpers.paths import DATA

FILES = DATA / "formats"
PRICES = {"ant-small": (0.1, 0.4), "ant-large": (2.0, 8.0)}
calm = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = [
    *("id", "query", "dataset", "input_tokens", "outputs", "query_id", "model", "quality", "output_tokens"),
    *("cost_usd", "task_name", "model_name", "performance", "choices", "task_id", "llm", "effect", "records"),
    *("input_token_length", "prompt", "eval_name", "sample_id", "m", "m|total_cost", "m|model_response"),
    *("m_response", "kind", "answer"),
]
rows = st.dictionaries(st.sampled_from(NAMES), values, min_size=1, max_size=9)


@calm
@given(st.lists(rows, min_size=1, max_size=3), st.sampled_from(["auto", *FORMATS]))
@example([{"records": [None]}], "auto")  # what a run of this test once found
def test_any_rows(tmp_path, content, form):
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    options = ImportOptions(ignore="*", output_tokens=5)
    with suppress(RecordError):
        list(read_records(tmp_path / "r.jsonl"))
    with suppress(RecordError):
        list(import_records(tmp_path / "r.jsonl", form=form, prices=PRICES, options=options))
    with suppress(RecordError):
        read_tasks(tmp_path / "r.jsonl")


@calm
@given(st.sampled_from(sorted(path.name for path in FILES.glob("*.*"))), st.data())
def test_any_damage_to_a_good_file(tmp_path, name, data):
    """Cut out, put in or change some bytes."""
    whole = (FILES / name).read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 20, len(whole))))
    path = tmp_path / name
    path.write_bytes(whole[:start] + data.draw(st.binary(max_size=10)) + whole[end:])
    if path.suffix != ".toml":
        with suppress(RecordError):
            list(import_records(path, prices=PRICES, options=ImportOptions(output_tokens=5)))


@pytest.mark.parametrize("name", ["r.parquet", "r.jsonl.gz"])
def test_any_damage_to_a_packed_file(tmp_path, name):
    write_records(tmp_path / name, read_records(FILES / "records.jsonl"))
    whole = (tmp_path / name).read_bytes()
    for start in range(0, len(whole), 37):
        for changed in (whole[:start], whole[:start] + b"\xff\x00" + whole[start + 2 :]):
            (tmp_path / name).write_bytes(changed)
            with suppress(RecordError):
                list(read_records(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.json", b"1" * 5000),
        ("r.json", b"[" * 100_000),
        ("r.jsonl", b'{"query": ' + b"9" * 5000 + b"}\n"),
        ("r.csv", b'query_id,model\n"never closed, a\n'),
        ("r.csv", b"query_id,model\nnul \x00,a\n"),
        ("r.csv", b"\xff\xfeq\x00\xd8"),
        ("r.jsonl.gz", gzip.compress(b"{}\n")[:-9]),
        ("r.jsonl", b'{"model": "a", "query_id": [1]}\n'),
    ],
)
def test_hostile_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError):
        list(read_records(tmp_path / name))
