"""Prices recovered from costs, input tokens per model, columns that nobody knows."""

from __future__ import annotations

import json

import numpy as np
import pytest

from eccos_rs.cli.main import main
from eccos_rs.records import Output, Record, RecordTable, read_records, write_records
from eccos_rs.records.prices import fit_prices, load_prices


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code or 0


def calls(n=300, prices=(0.15, 0.6), seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, 3000, size=(n, 2)).astype(np.float64)
    return tokens, tokens @ np.array(prices) / 1e6


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("factor", [0.0, 0.5, 1000.0])
def test_outliers_do_not_move_the_prices(share, factor):
    tokens, cost = calls()
    wrong = np.random.default_rng(1).random(len(cost)) < share
    cost[wrong] *= factor
    fit = fit_prices("m", tokens, cost)
    assert fit is not None
    assert fit.prices == (0.15, 0.6)
    assert fit.share == pytest.approx(1 - wrong.mean(), abs=0.02)


def test_costs_without_a_price_list_give_none():
    tokens, _ = calls()
    assert fit_prices("m", tokens, np.random.default_rng(2).random(len(tokens))) is None
    tokens[:] = tokens[0]
    assert fit_prices("m", tokens, np.full(len(tokens), 0.1)) is None
    assert fit_prices("m", tokens[:1], np.ones(1)) is None


def records(n=60):
    tokens, cost = calls(n)
    for row in range(n):
        asked, given = (int(count) for count in tokens[row])
        cheap = Output("small", 1.0, given, float(cost[row]), asked + 7)
        yield Record(f"q{row}", "d", asked, (cheap, Output("large", 0.5, 10, 0.1 + row)), str(row))


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
@pytest.mark.parametrize("form", ["record", "tidy"])
def test_input_tokens_per_model_survive_a_file(tmp_path, name, form):
    made = [
        Record("q", "d", 5, (Output("a", 1.0, 3, 0.1), Output("b", 1.0, 3, 0.1, 9)), "x"),
        Record("r", "d", 6, (Output("a", 1.0, 3, 0.1),), "y"),
    ]
    write_records(tmp_path / name, made, form=form)
    assert list(read_records(tmp_path / name)) == made
    table = RecordTable.read(tmp_path / name)
    assert table.prompt_tokens.tolist() == [[5, 9], [6, 6]]
    assert list(table.records()) == made
    assert table.select([0]).select_models(["b"]).prompt_tokens.tolist() == [[9]]
    assert RecordTable.joined([table.select([1]), table]).prompt_tokens.tolist() == [[6, 6], [5, 9], [6, 6]]
    assert RecordTable.from_records(made[1:]).model_input_tokens is None


def test_a_missing_cost_goes_by_the_models_own_count(tmp_path):
    row = made = next(records())
    row = made.to_dict()
    for output in row["outputs"]:
        del output["cost_usd"]
    (tmp_path / "r.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_records(tmp_path / "r.jsonl", prices={"small": (0.15, 0.6), "large": (1.0, 1.0)})
    asked, given = made.input_tokens + 7, made.outputs[0].output_tokens
    assert read.outputs[0].cost_usd == pytest.approx((0.15 * asked + 0.6 * given) / 1e6)


def test_the_command_recovers_prices_and_fills_in_costs(tmp_path, capsys):
    rows = []
    for record in records():
        row = record.to_dict()
        row["outputs"] = row["outputs"][:1]
        row["outputs"][0]["cost_usd"] = (
            0.15 * row["outputs"][0]["input_tokens"] + 0.6 * row["outputs"][0]["output_tokens"]
        ) / 1e6
        rows.append(row)
    del rows[7]["outputs"][0]["cost_usd"]
    (tmp_path / "in.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, prices = tmp_path / "out.jsonl", tmp_path / "prices.csv"
    assert run("import", tmp_path / "in.json", "-o", out, "--write-prices", prices) == 0
    assert load_prices(prices) == {"small": (0.15, 0.6)}
    costs = [record.outputs[0].cost_usd for record in read_records(out)]
    assert len(costs) == 60
    first = rows[7]["outputs"][0]
    assert costs[7] == pytest.approx((0.15 * first["input_tokens"] + 0.6 * first["output_tokens"]) / 1e6)
    capsys.readouterr()
    for row in rows:
        row["outputs"][0].pop("cost_usd", None)
    (tmp_path / "none.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("import", tmp_path / "none.jsonl", "-o", tmp_path / "no.jsonl") == 1
    assert "never taken as 0" in capsys.readouterr().err
    assert not (tmp_path / "no.jsonl").exists()


def test_unknown_columns_are_said_once_and_all_of_them(tmp_path, capsys):
    rows = [{**record.to_dict(), "my team": 1, "colour": 2} for record in records()]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run("import", tmp_path / "in.jsonl") == 1
    err = capsys.readouterr().err
    assert err.count("nobody knows") == err.count("\n") == 1
    assert "--ignore-column 'my team' --ignore-column colour" in err
    assert run("import", tmp_path / "in.jsonl", "--skip-bad") == 1 or "left out" in capsys.readouterr().out
    ignored = ("--ignore-column", "my team", "--ignore-column", "colour")
    assert run("import", tmp_path / "in.jsonl", *ignored) == 0
