"""The command line: statuses, sentences, files written whole."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest
from rich.cells import cell_len

from eccos_rs import InputError, Query, QueryError
from eccos_rs.cli.common import read_queries, write_whole
from eccos_rs.cli.main import COMMANDS, main
from tests.helpers.paths import DATA, ROOT

HOSTILE = DATA / "hostile"
SAMPLES = ROOT / "examples" / "queries.jsonl"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code or 0


def test_the_overview_names_every_command(capsys):
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_a_sentence_and_options(name, capsys):
    assert run(name, "--help") == 0
    shown = capsys.readouterr().out
    assert "Usage: eccos" in shown
    assert "--help" in shown
    assert "\\b" not in shown  # the mark of lines to leave as they are, taken for text
    assert len(shown.splitlines()) > 8


def test_the_version_is_printed(capsys):
    import eccos_rs

    assert run("--version") == 0
    assert capsys.readouterr().out == f"eccos-rs {eccos_rs.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("rout",),
        ("route",),
        ("route", "x", "--no-such-option"),
        ("route", "x", "--min-quality", "high"),
        ("route", "x", "--min-quality", "1.5"),
        ("route", "x", "--min-quality", "0.5", "--budget", "1"),
        ("route", "x", "--format", "xml"),
        ("route", "x", "--format", "parquet"),
        ("route", "x", "--input", "xml"),
        ("route", "x", "--capacity", "gpt"),
        ("route", "x", "--capacity", "=3"),
        ("route", "x", "--tokens-per-second", "0"),
        ("bench", "--batch", "1,x"),
        ("bench", "--batch", "0"),
    ],
)
def test_bad_usage_ends_in_2_with_a_hint_on_standard_error(arguments, capsys):
    assert run(*arguments) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    assert "Usage: eccos" in caught.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("route", "not_there.txt"), "eccos: not_there.txt: No such file or directory"),
        (("route", "."), "Is a directory"),
        (("route", str(SAMPLES), "--out", "no/such/folder/plan.jsonl"), "there is no folder no/such/folder"),
        (("route", str(SAMPLES), "--out", str(HOSTILE)), "that is a folder; wanted the name of a file"),
        (("route", str(SAMPLES), "--pool", str(HOSTILE / "typo.toml")), "did you mean 'input_price'?"),
        (("route", str(SAMPLES), "--pool", str(HOSTILE / "no_price.toml")), "output_price of model 'large'"),
        (("route", str(SAMPLES), "--bundle", "nowhere"), "no bundle 'nowhere'"),
        (("route", str(HOSTILE / "broken.jsonl")), "broken.jsonl, line 3: is not valid JSON"),
        (("route", str(HOSTILE / "typo.jsonl")), "line 2: unknown key 'min_qualty'"),
        (("route", str(HOSTILE / "latin1.txt")), "latin1.txt, line 2: is not UTF-8 text"),
        (("info", str(HOSTILE / "newer.toml")), "schema_version must be 1, got 2"),
        (("info", "nowhere"), "no bundle 'nowhere'"),
    ],
)
def test_a_failure_ends_in_1_with_one_sentence_on_standard_error(arguments, sentence, capsys):
    assert run(*arguments) == 1
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err.startswith("eccos: ")
    assert sentence in caught.err
    assert caught.err.count("\n") == 1


def test_a_text_file_is_one_query_a_line(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffFirst?\r\n\r\n  \nSecond \u2028 still second\n".encode())
    assert [query.text for query in read_queries(str(tmp_path / "a.txt"))] == [
        "First?",
        "Second \u2028 still second",
    ]
    (tmp_path / "empty.txt").write_bytes(b"")
    assert read_queries(str(tmp_path / "empty.txt")) == []


def test_json_lines_hold_texts_chats_and_objects(tmp_path):
    chat = [{"role": "user", "content": "Hi"}]
    lines = ['"A text"', json.dumps(chat), '{"query": "lone \\ud800", "id": 3, "tools": true}', ""]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert read_queries(str(tmp_path / "a.jsonl")) == [
        Query("A text"),
        Query.of(chat),
        Query("lone \ufffd", id="3", tools=True),
    ]
    (tmp_path / "b.txt").write_text("[1, 2] is a list.\nWhat is it?", encoding="utf-8")
    assert read_queries(str(tmp_path / "b.txt"))[0].text == "[1, 2] is a list."
    assert len(read_queries(str(tmp_path / "a.jsonl"), "text")) == 3
    with pytest.raises(QueryError, match=r"line 1: is not valid JSON"):
        read_queries(str(tmp_path / "b.txt"), "jsonl")


def test_a_number_is_no_query(tmp_path):
    (tmp_path / "a.jsonl").write_text('"a"\n7\n', encoding="utf-8")
    with pytest.raises(QueryError, match=r"a\.jsonl, line 2: a query is .*got int"):
        read_queries(str(tmp_path / "a.jsonl"))


def test_standard_input_is_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"One\nTwo\n")))
    assert [query.text for query in read_queries("-")] == ["One", "Two"]


def test_nesting_beyond_any_sense_is_refused(tmp_path):
    (tmp_path / "deep.jsonl").write_text('{"messages": ' + "[" * 100_000, encoding="utf-8")
    with pytest.raises((QueryError, InputError), match="line 1"):
        read_queries(str(tmp_path / "deep.jsonl"))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "plan.jsonl"
    path.write_text("old")

    def fail() -> None:
        with write_whole(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with write_whole(path) as stream:
        stream.write(b"new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_routing_writes_json_lines_that_come_back(tmp_path, capsys):
    out = tmp_path / "plan.jsonl"
    assert run("route", str(SAMPLES), "--min-quality", "0.6", "--format", "jsonl", "-o", str(out)) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(read_queries(str(SAMPLES))) >= 60
    assert {"query", "model", "quality", "output_tokens", "cost", "runner_up", "reason"} <= set(rows[0])
    assert sum(row["quality"] for row in rows) / len(rows) >= 0.6 - 1e-6
    assert capsys.readouterr().out == ""


def test_routing_writes_parquet(tmp_path):
    import pyarrow.parquet as pq

    out = tmp_path / "plan.parquet"
    assert run("route", str(SAMPLES), "--format", "parquet", "-o", str(out)) == 0
    table = pq.read_table(out)
    assert table.num_rows >= 60
    assert table.schema.field("cost").type == "double"
    assert table["id"][0].as_py() == "knowledge-1"


def test_routing_prints_one_json_value_that_a_program_reads(capsys):
    assert run("route", str(SAMPLES), "--quality-value", "0.01", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["status"] in ("optimal", "feasible")
    assert plan["cost"] == pytest.approx(sum(row["cost"] for row in plan["rows"]))
    assert [baseline["name"] for baseline in plan["baselines"]] == ["strongest", "cheapest"]
    assert 0 < plan["share_of_response_time"] < 1
    assert plan["promised"] is None


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_fits_its_width(width, capsys, monkeypatch):

    monkeypatch.setenv("COLUMNS", str(width))
    assert run("route", str(SAMPLES)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines) <= width
    shown = "\n".join(lines)
    for words in (
        "(empty)",
        "all to the strongest",
        "all to the cheapest",
        "mean success",
        "certified gap",
        "encode",
    ):
        assert words in shown
    assert ("runner-up" in shown) == (width >= 110)


def test_an_empty_batch_is_no_error(tmp_path, capsys):
    (tmp_path / "none.txt").write_text("\n\n")
    assert run("route", str(tmp_path / "none.txt")) == 0
    assert "an empty batch" in capsys.readouterr().out
    assert run("route", str(tmp_path / "none.txt"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_an_unreachable_promise_is_an_answer(capsys):
    assert run("route", str(SAMPLES), "--min-quality", "1") == 0
    shown = capsys.readouterr().out
    assert "quality_unreachable" in shown
    assert run("route", str(SAMPLES), "--budget", "0") == 0
    assert "budget_unreachable" in capsys.readouterr().out


def test_a_query_that_no_model_may_take_fails_by_name(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('"Hi"\n{"query": "long", "context_tokens": 900000000, "id": "x"}\n')
    assert run("route", str(tmp_path / "a.jsonl")) == 1
    assert "query 1 (id 'x'): no model may take it" in capsys.readouterr().err
    assert run("route", str(tmp_path / "a.jsonl"), "--unroutable", "defer") == 3
    shown = capsys.readouterr()
    assert "- deferred -" in shown.out
    assert "1 of 2 queries deferred; 1 that no model may take" in shown.err


def test_a_part_of_the_pool_and_capacities(capsys):
    from eccos_rs import Router

    first, second = Router.load().pool.names[:2]
    limit = f"{first}=3"
    assert run("route", str(SAMPLES), "--models", f"{first},{second}", "--capacity", limit, "--json") == 0
    models = [row["model"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert set(models) <= {first, second}
    assert models.count(first) <= 3


def test_side_limits_and_overage_reach_the_command(tmp_path, capsys):
    from eccos_rs import Limit, OverageTier, Router

    pool = Router.load().pool
    cheap, dear = min(pool, key=lambda m: m.output_price).name, max(pool, key=lambda m: m.output_price).name
    place, side = tmp_path / "pool.toml", tmp_path / "side.toml"
    tiers = [OverageTier(0.01, above_requests=1)]
    place.write_text(pool.with_limits(Limit("reserved", (dear,), slots=1, overage=tiers)).to_toml())
    side.write_text(
        f'[[side_limit]]\nname = "carbon"\nat_most = 1\nper_request = {{ "{cheap}" = 0, "{dear}" = 1 }}\n'
    )
    line = ("route", str(SAMPLES), "--pool", str(place), "--models", f"{cheap},{dear}", "--json")
    assert run(*line, "--relative-quality", "1") == 0
    charged = json.loads(capsys.readouterr().out)
    (overage,) = charged["limits"]
    beyond = sum(row["model"] == dear for row in charged["rows"]) - 1
    assert beyond > 1
    assert overage["charge"] == pytest.approx(0.01 * beyond)
    assert charged["cost"] == pytest.approx(sum(row["cost"] for row in charged["rows"]) + overage["charge"])
    assert run(*line, "--quality-value", "1", "--side-limits", str(side)) == 0
    kept = json.loads(capsys.readouterr().out)
    assert sum(row["model"] == dear for row in kept["rows"]) == 1
    assert [limit["name"] for limit in kept["limits"]] == ["carbon", "overage of limit 'reserved' (requests)"]
    side.write_text("[[side]]")
    assert run(*line, "--side-limits", str(side)) != 0
    assert "[[side_limit]] tables alone" in capsys.readouterr().err
    assert run(*line[:-1], "--out-dir", str(tmp_path / "out")) != 0
    assert "limit 'reserved' has 'overage'" in capsys.readouterr().err


def test_a_capacity_of_models_that_share_a_limit_is_kept_over_a_file(tmp_path, capsys):
    from eccos_rs import Limit, Router

    pool = Router.load().pool
    first, second = pool.names[:2]
    place = tmp_path / "pool.toml"
    place.write_text(pool.with_limits(Limit("gpu", (first, second), slots=1)).to_toml())
    three = f"{first},{second},{pool.names[2]}"
    given = ("route", str(SAMPLES), "--models", three, "--pool", str(place), "--json")

    def taken(*more):
        assert run(*given, *more) == 0
        models = [row["model"] for row in json.loads(capsys.readouterr().out)["rows"]]
        return sum(model in (first, second) for model in models)

    assert taken() > 4
    assert taken("--capacity", "gpu=4") == 4


def test_hostile_texts_are_routed(tmp_path, capsys):
    texts = ["a\x00b", "lone \ud800", "\u202eturned", "👩‍👩‍👧", "\x1b[31mred", "x" * 1_000_000, " ", "\u200b"]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"query": text}) for text in texts))
    assert run("route", str(tmp_path / "a.jsonl")) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x00" not in shown
    assert "\u202e" not in shown
    assert run("route", str(tmp_path / "a.jsonl"), "--format", "jsonl") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == len(texts)
    assert rows[5]["input_tokens"] > 1000


def test_this_machine_s_devices_are_shown(capsys):
    assert run("info", "--device") == 0
    assert "device=auto takes" in capsys.readouterr().out
    assert run("info", "--device", "--json") == 0
    assert json.loads(capsys.readouterr().out)["auto"] in ("cpu", "cuda")


def test_the_bench_measures_every_stage(capsys):
    assert run("bench", "--batch", "1,8", "--seconds", "0.01", "--tokens-per-second", "40", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["batch"] for row in report["batches"]] == [1, 8]
    for row in report["batches"]:
        stages = row["seconds_a_query"]
        assert {"tokenize", "encode", "retrieve", "predict", "assign", "other"} <= set(stages)
        # Every text is new, so the encoder has worked.
        assert stages["encode"] > stages["assign"] > 0
        assert row["share"] == pytest.approx(row["all"] / (row["output_tokens"] / 40))
    assert run("bench", "--batch", "2", "--seconds", "0.01", "--queries", str(SAMPLES)) == 0
    assert "at 50 tokens per second" in " ".join(capsys.readouterr().out.split())


def test_a_folder_that_cannot_be_written_is_told(tmp_path, capsys, monkeypatch):
    if os.geteuid() == 0:
        # Root may write everywhere, so the system's answer to anybody else is given in its place.
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    tmp_path.chmod(0o500)
    assert run("route", str(SAMPLES), "-f", "jsonl", "-o", str(tmp_path / "plan.jsonl")) == 1
    assert "Permission denied" in capsys.readouterr().err
