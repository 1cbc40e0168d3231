"""Effort and lane are part of which model answered: records keep them apart, each updates its own column."""

from __future__ import annotations

import csv
import json

import pytest

from eccos_rs import LLM, Pool, RecordError, Router
from eccos_rs.cli.main import main
from eccos_rs.predict.bundle import DAY_ONE_BUNDLE, SHIPPED
from eccos_rs.records import Output, Record, RecordTable, read_records, write_records

ANSWER = {"model": "o3", "quality": 1.0, "output_tokens": 9, "cost_usd": 0.1}
QUERY = {"query": "Why?", "dataset": "own", "input_tokens": 3}


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tidy(**more):
    return {"query_id": "q", **QUERY, **ANSWER, **more}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"effort": "low"}, "o3@low"),
        ({"effort": "High", "lane": "batch"}, "o3@high@batch"),
        ({"effort": None, "lane": "standard"}, "o3"),
        ({"effort": "", "lane": ""}, "o3"),
        ({"effort": float("nan")}, "o3"),
        ({"model": "O3 (High)", "effort": "high"}, "O3 (High)"),
        ({"model": "o3@low", "effort": "low"}, "o3@low"),
        ({"model": "Claude 4 (Thinking)", "effort": "max"}, "Claude 4 (Thinking)@max"),
    ],
)
def test_both_forms_name_the_column(options, name, tmp_path):
    record = {**QUERY, "outputs": [{**ANSWER, **options}]}
    for row in (record, tidy(**options)):
        (found,) = read_records(written(tmp_path / "r.jsonl", row))
        assert [output.model for output in found.outputs] == [name]
        # It is written and read back as it is.
        write_records(tmp_path / "again.parquet", [found], form="tidy")
        (again,) = read_records(tmp_path / "again.parquet")
        assert again.outputs == found.outputs


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"effort": "turbo"}, r"effort.*got 'turbo', wanted one of none, minimal, low"),
        ({"lane": "slow"}, r"lane.*got 'slow', wanted one of standard, batch"),
        ({"effort": 3}, r"effort.*got 3"),
        ({"model": "o3 (high)", "effort": "low"}, r"effort.*is 'low', the model 'o3 \(high\)' says 'high'"),
    ],
)
def test_what_is_no_effort_is_refused(options, sentence, tmp_path):
    for row in ({**QUERY, "outputs": [{**ANSWER, **options}]}, tidy(**options)):
        with pytest.raises(RecordError, match=sentence):
            list(read_records(written(tmp_path / "r.jsonl", row)))


def test_one_model_at_two_efforts_is_two_columns_of_one_query(tmp_path):
    rows = [tidy(effort=effort, quality=quality) for effort, quality in (("low", 0.0), ("high", 1.0))]
    with (tmp_path / "r.csv").open("w", newline="") as stream:
        made = csv.DictWriter(stream, rows[0])
        made.writeheader()
        made.writerows(rows)
    table = RecordTable.read(tmp_path / "r.csv")
    assert table.models == ("o3@low", "o3@high")
    assert table.quality.tolist() == [[0.0, 1.0]]
    with pytest.raises(RecordError, match="has model 'o3@low' twice"):
        list(read_records(written(tmp_path / "r.jsonl", tidy(effort="low"), tidy(effort="low"))))


def test_an_effort_has_the_price_of_its_model_and_a_lane_its_own(tmp_path):
    rows = [{**tidy(effort="low"), "cost_usd": None}, {**tidy(lane="batch"), "cost_usd": None}]
    prices = {"o3": (2.0, 8.0)}
    (found,) = read_records(written(tmp_path / "r.jsonl", rows[0]), prices=prices)
    assert found.outputs[0].cost_usd == pytest.approx((3 * 2.0 + 9 * 8.0) / 1e6)
    with pytest.raises(RecordError, match="'o3@batch' has neither a cost here nor a price"):
        list(read_records(written(tmp_path / "r.jsonl", rows[1]), prices=prices))


day_one = pytest.mark.skipif(
    not (SHIPPED / DAY_ONE_BUNDLE / "bundle.toml").is_file(),
    reason="the day-one bundle is not in this checkout",
)


@day_one
def test_labels_at_an_effort_teach_that_column_alone(tmp_path):
    """By the command: a label that does not say its effort, or says another, updates neither."""
    (tmp_path / "pool.toml").write_text(Pool.of("o3@low", "o3@high", "gpt-5-mini").to_toml(), "utf-8")
    rows = [
        {**QUERY, "query": f"Why is {at} odd?", "outputs": [
            {**ANSWER, "model": "openai/o3", "effort": "low", "quality": 0.0},
            {**ANSWER, "model": "o3", "effort": "medium", "quality": 0.0},
            {**ANSWER, "model": "o3"},
        ]} for at in range(40)
    ]  # fmt: skip
    line = [
        "learn",
        written(tmp_path / "r.jsonl", *rows),
        "--pool",
        tmp_path / "pool.toml",
        "--out",
        tmp_path / "b",
    ]
    with pytest.raises(SystemExit) as ended:
        main([*map(str, line), "--bundle", DAY_ONE_BUNDLE])
    assert not ended.value.code
    router = Router.load(tmp_path / "b", device="cpu")
    assert [row.labels for row in router.knowledge()] == [40, 0, 0]
    before = Router.load(DAY_ONE_BUNDLE, pool=tmp_path / "pool.toml", device="cpu").predict(["Why is 3 odd?"])
    moved = (router.predict(["Why is 3 odd?"]).quality - before.quality)[0]
    # On queries unlike any that are known a failure speaks of all models, and most of the one that failed.
    assert moved[0] < -0.1
    assert moved[0] < moved[1:].min() - 0.02


def test_a_bundle_that_knows_a_column_knows_the_model_at_that_effort():
    from eccos_rs.pools.columns import renamed_columns

    pool = Pool([LLM("o3", 1, 2, effort="low"), LLM("a", 1, 2)])
    named = renamed_columns(pool, ("o3@low", "o3@high", "a"))
    assert named.names == ("o3@low", "a")
    assert named["o3@low"].key == pool["o3"].key
    assert renamed_columns(pool, ("o3", "o3@low")) is pool
    assert renamed_columns(pool, ()) is pool


def test_labels_by_another_spelling_of_the_model_are_learned():
    router = Router.load(pool=Pool.of("gpt-5-mini", "claude-sonnet-4.5"), device="cpu")
    spelt = Output("anthropic/claude-sonnet-4-5-20250929", 0.0, 5, 0.1)
    router.learn([Record(f"Why {at}?", "own", 3, (spelt,)) for at in range(20)])
    assert [row.labels for row in router.knowledge()] == [0, 20]
