"""`eccos plan` from a log to table, page, picture and JSON, with the shipped day-one router."""

from __future__ import annotations

import json
import time
from contextlib import closing

import pytest

from eccos_rs.cli.main import main
from eccos_rs.session.store import LeaseRow, open_store
from tests.helpers.grading import question

POOL = """schema_version = 1
[[model]]
name = "gpt-5-mini"
input_price = 0.25
output_price = 2.0
slots = 2
[[model]]
name = "gpt-5"
input_price = 1.25
output_price = 10.0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rows = (
        {"model": ("gpt-5", "gpt-5-mini")[number % 2], "created_at": 1_767_225_600 + 3_600 * number,
         "messages": [{"role": "user", "content": question(number)}]}
        for number in range(48)
    )  # fmt: skip
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "pool.toml").write_text(POOL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *more, log="log.jsonl"):
    with pytest.raises(SystemExit) as ended:
        main(["plan", log, "--pool", "pool.toml", "--resamples", "10", *more])
    out = capsys.readouterr()
    return ended.value.code or 0, out.out, out.err


def test_from_a_log_to_every_form(folder, capsys):
    more = ["--if", "price gpt-5=x0.1", "--if", "add gpt-5-nano", "--if", "batch 50%", "--if", "outage gpt-5"]
    files = ["-o", "plan.html", "-o", "plan.svg", "-o", "plan.png", "-o", "plan.json"]
    code, out, err = run(capsys, *more, *files, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told == json.loads((folder / "plan.json").read_text())
    now, cheap, nano, batch, without = told["worlds"]
    assert told["log"]["days"] == pytest.approx(2.0)
    assert told["log"]["requests_per_day"] == pytest.approx(24.0)
    assert told["waiting_by"] == "arrival times"
    # Today's quality is the goal: routed, it costs no more than what the log's models cost.
    assert now["goal"]["min_quality"] == pytest.approx(told["as_is"]["quality"]["value"])
    assert now["usd_per_day"]["value"] <= told["as_is"]["usd_per_day"]["value"] * 1.001
    assert cheap["saved_usd_per_day"]["value"] > 0
    assert set(nano["shares"]) == {"gpt-5-mini", "gpt-5", "gpt-5-nano"}
    # The catalogue's batch lane is half the price, for about half of the requests.
    assert 0.6 < batch["usd_per_day"]["value"] / now["usd_per_day"]["value"] < 0.9
    assert without["status"] == "quality_unreachable"
    assert without["shares"] == {"gpt-5-mini": 1.0}
    assert len(told["frontier"]) > 5
    page = (folder / "plan.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 2
    assert "success is out of reach" in page
    assert "tenants" not in page
    assert (folder / "plan.svg").read_text().startswith("<?xml")
    assert (folder / "plan.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_says_what_binds(folder, capsys):
    code, out, _ = run(capsys, "--min-quality", "0.8", "--tokens-per-second", "0.001")
    assert code == 0
    words = " ".join(out.split())
    assert "What binds" in words
    assert "10 more slots of gpt-5-mini: US$" in words
    assert "Waiting for a slot" in words


def test_labels_of_a_new_model_move_its_forecast(folder, capsys):
    """Sixty labels that say that it is never right: nothing goes there any more."""
    told = {}
    for name, quality in (("good", 1.0), ("bad", 0.0)):
        rows = (
            {"query": question(number), "dataset": "log", "input_tokens": 30, "outputs": [
                {"model": "gpt-5-nano", "quality": quality, "output_tokens": 300, "cost_usd": 1e-4}]}
            for number in range(60)
        )  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        _, out, _ = run(capsys, "--min-quality", "0.7", "--json", "--if", f"add gpt-5-nano={name}.jsonl")
        told[name] = json.loads(out)["worlds"][1]["shares"]["gpt-5-nano"]
    assert told["good"] > 0.9
    assert told["bad"] < 0.1


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (["--if", "pirce gpt-5=x2"], 2, "did you mean 'price'"),
        (["--if", "outage gpt-55"], 1, "did you mean 'gpt-5'"),
        (["--if", "slots gpt-5-mini=-5"], 1, "must be more than 0, got -3"),
        (["--min-quality", "0.5", "--budget", "3"], 2, "one goal is wanted"),
        (["--min-quality", "7"], 2, "min_quality must lie in [0, 1], got 7"),
        (["--budget", "-1"], 2, "budget must be a finite number"),
        (["--days", "0"], 2, "days must be a finite number greater than 0, got 0"),
        (["--utilisation", "0"], 2, "utilisation must lie in (0, 1], got 0"),
        (["-o", "plan.doc"], 2, "must end in one of"),
        (["--scenarios", "none.toml"], 1, "none.toml: No such file"),
    ],
)  # fmt: skip
def test_bad_input_is_named_before_anything_is_written(folder, capsys, line, status, said):
    code, out, err = run(capsys, "-o", "never.html", *line)
    assert (code, out) == (status, "")
    assert said in " ".join(err.split()).replace("│ ", "")
    assert not (folder / "never.html").exists()


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ('{"query": ""}\n', "holds no request")])
def test_a_log_without_a_request(folder, capsys, text, said):
    (folder / "none.jsonl").write_text(text)
    code, _, err = run(capsys, log="none.jsonl")
    assert code == 2
    assert said in err


def test_a_log_that_is_not_there(folder, capsys):
    assert run(capsys, log="nowhere.jsonl")[0] == 1


def test_a_pool_of_batch_lanes_alone(folder, capsys):
    (folder / "pool.toml").write_text(
        POOL.replace("slots = 2", 'lane = "batch"').split('[[model]]\nname = "gpt-5"\n')[0]
    )
    code, _, err = run(capsys)
    assert code == 1
    assert "every model of the pool is a batch lane" in err


def a_store(url, count=60, models=("gpt-5", "gpt-5-mini", "gpt-5-mini")):
    """One request a minute; the first two are judged, all cost a third more than was forecast."""
    began = time.time() - 86_400  # a store forgets what is months old
    with closing(open_store(url)) as store:
        for number in range(count):
            name, at = f"lease {number}", began + 60.0 * number
            store.lease(LeaseRow(name, models[number % len(models)], at, 0.8, 0.8, 100.0, 0.003, None))
            store.settle(name, 130.0, 0.004, False)
        for number in range(2):
            store.feedback(f"lease {number}", 1.0 - number).result(5)
        store.flush()


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_a_store_says_how_many_came_and_when_and_who_answered(folder, capsys, kind, request):
    url = "sqlite:///gateway.sqlite" if kind == "sqlite" else request.getfixturevalue("redis_url")
    a_store(url)
    code, out, err = run(capsys, "--store", url, "--if", "traffic 2", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["log"]["days"] == pytest.approx(1 / 24)
    assert told["log"]["requests_per_day"] == pytest.approx(60 * 24)
    assert told["waiting_by"] == "arrival times"
    remarks = " ".join(told["log"]["remarks"])
    assert "60 requests of the store; it holds no texts" in remarks
    assert "60 of them really cost US$ 0.24, forecast were US$ 0.18" in remarks
    assert "2 were judged: mean success 50.0 %, forecast were 80.0 %" in remarks


def test_of_a_long_store_a_fair_sample_is_looked_at(folder, capsys):
    a_store("long.sqlite", 400)
    _, out, _ = run(capsys, "--store", "long.sqlite", "--sample", "100", "--json")
    told = json.loads(out)
    assert told["log"]["requests_per_day"] == pytest.approx(60 * 24)
    assert told["waiting_by"] == "M/M/c"
    assert told["log"]["rows"] == 100


def test_a_store_that_is_none_is_told_and_not_made(folder, capsys):
    for url, words in (
        ("sqlite:///none.sqlite", "there is no file none.sqlite"),
        ("memory://", "ends with its process"),
        ("http://x", "wanted memory://, sqlite:///path"),
        ("log.jsonl", "not a database"),
    ):
        code, _, err = run(capsys, "--store", url)
        assert code == (1 if url == "log.jsonl" else 2)
        assert words in err
    assert not (folder / "none.sqlite").exists()
    with closing(open_store("empty.sqlite")):
        pass
    assert "holds no decision yet" in run(capsys, "--store", "empty.sqlite")[2]
    a_store("gone.sqlite", 6, ("gpt-4o",))
    _, out, _ = run(capsys, "--store", "gone.sqlite", "--json")
    assert "not in the pool any more: gpt-4o" in " ".join(json.loads(out)["log"]["remarks"])
    assert run(capsys, "--store", "gone.sqlite", "--days", "2")[0] == 2
