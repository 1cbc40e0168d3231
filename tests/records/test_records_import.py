"""Other projects' forms: each read from a small file of our own writing, and the report over them."""

from __future__ import annotations

import csv
import json
import shutil
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from eccos_rs.cli.main import main
from eccos_rs.errors import InputError, PoolError, RecordError
from eccos_rs.records import Output, Record, RecordTable, read_records
from eccos_rs.records.importers import FORMATS, ImportOptions, detect_format, import_records
from eccos_rs.records.prices import load_prices
from eccos_rs.records.report import Summary
from eccos_rs.records.tokens import estimate_tokens, token_counter
from tests.helpers.paths import DATA

if TYPE_CHECKING:
    from pathlib import Path

FILES = DATA / "formats"
PRICES = {"ant-small": (0.1, 0.4), "ant-large": (2.0, 8.0)}
SOURCES = {
    "records": "records.jsonl",
    "tidy": "tidy.csv",
    "routellm-gsm8k": "routellm/gsm8k_responses.csv",
    "routellm-mmlu": "routellm/mmlu_pond_biology.csv",
    "routerbench": "routerbench.csv",
    "llmrouterbench": "llmrouterbench",
    "llmrouter": "llmrouter.jsonl",
    "graphrouter": "graphrouter.csv",
    "aios": "aios.json",
    "long": "long.csv",
}


def words(text: str) -> int:
    return len(text.split())


def load(form: str, **options: object) -> list[Record]:
    chosen = ImportOptions(count=words, output_tokens=50 if form == "graphrouter" else None, **options)
    return list(import_records(FILES / SOURCES[form], prices=PRICES, options=chosen))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def rewritten(path: Path, out: Path, row: int, **cells: str) -> Path:
    """Copy a CSV with some cells of one row (from 1) changed; a new name adds a column."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for index, line in enumerate(rows, start=1):
        for name, value in cells.items():
            line[name] = value if index == row else line.get(name, "")
    with out.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_every_form_has_a_file():
    assert set(SOURCES) == set(FORMATS)


@pytest.mark.parametrize("form", FORMATS)
def test_a_form_is_told_by_its_first_row(form):
    path = FILES / SOURCES[form]
    first = next(path.rglob("*.json")) if path.is_dir() else path
    assert detect_format(first) == form


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_imported_is_a_record_set(form, tmp_path):
    """Through a file and back; every form yields complete, priced, uniquely named records."""
    from eccos_rs.records import write_records

    records = load(form)
    write_records(tmp_path / "r.jsonl", records)
    assert list(read_records(tmp_path / "r.jsonl")) == records
    assert len(RecordTable.from_records(records).models) == 2
    assert all(output.cost_usd > 0 for record in records for output in record.outputs)
    assert len({record.id for record in records}) == len(records)


def test_routellm_gsm8k():
    first, second = load("routellm-gsm8k")
    assert (first.id, first.dataset, first.input_tokens) == ("gsm8k/1", "gsm8k", 17)
    answer = "3 x 4 = 12\n#### 12"
    assert first.outputs[0] == Output("ant-small", 1.0, words(answer), (17 * 0.1 + 7 * 0.4) / 1e6)
    assert [output.quality for output in second.outputs] == [0.0, 1.0]


def test_routellm_mmlu():
    first, second = load("routellm-mmlu")
    assert first.dataset == "mmlu/pond_biology"
    assert [output.output_tokens for output in first.outputs] == [1, 1]
    assert [output.quality for output in second.outputs] == [0.0, 1.0]
    assert load("routellm-mmlu", dataset="other")[0].dataset == "other"


def test_routerbench():
    first, second, third = load("routerbench")
    assert (first.id, first.dataset) == ("pond.val.0", "pond-facts")
    assert first.query.startswith("Which pond animal builds")
    assert first.outputs[0] == Output("ant-small", 1.0, 1, 0.0000021)
    assert second.query == "You grade answers.\n\nHow deep do swans dive?"
    assert [output.model for output in third.outputs] == ["ant-small"]


def test_routerbench_parquet_and_pickle(tmp_path):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(FILES / "routerbench.csv")
    table.to_parquet(tmp_path / "r.parquet")
    options = ImportOptions(count=words)
    assert list(import_records(tmp_path / "r.parquet", options=options)) == load("routerbench")
    table.to_pickle(tmp_path / "r.pkl")
    with pytest.raises(RecordError, match="a pickle runs code when it is opened"):
        list(import_records(tmp_path / "r.pkl", form="routerbench"))


def test_llmrouterbench_takes_the_newest_run_and_no_demo():
    first, second = load("llmrouterbench")
    assert first.dataset == "pondmath"
    assert {output.model: output.quality for output in second.outputs} == {"ant-large": 1.0, "ant-small": 0.0}
    # The newest file of ant-large is a demo run of zeros; the older run of ant-small has zeros as well.
    assert {output.model: output.quality for output in first.outputs} == {"ant-large": 1.0, "ant-small": 1.0}


def test_llmrouterbench_prices_what_has_no_cost():
    costs = {output.model: output.cost_usd for output in load("llmrouterbench")[0].outputs}
    assert costs == {"ant-large": 0.0004, "ant-small": pytest.approx((24 * 0.1 + 40 * 0.4) / 1e6)}
    with pytest.raises(RecordError, match=r"model 'ant-small' has neither a cost here nor a price"):
        list(import_records(FILES / "llmrouterbench"))


def test_llmrouterbench_goes_by_the_path_of_an_older_file(tmp_path):
    shutil.copytree(FILES / "llmrouterbench", tmp_path / "b")
    for path in (tmp_path / "b").rglob("*.json"):
        content = json.loads(path.read_text())
        for name in ("model_name", "dataset_name", "split"):
            del content[name]
        path.write_text(json.dumps(content))
    records = list(import_records(tmp_path / "b", prices=PRICES))
    assert [record.dataset for record in records] == ["pondmath", "pondmath"]
    assert {output.model for output in records[0].outputs} == {"ant-small", "ant-large"}


def test_llmrouter_gathers_scattered_rows():
    birds, counting = load("llmrouter")
    assert birds.query == "Which one has feathers?\n(A) moth\n(B) wren"
    assert birds.input_tokens == 20  # the lower median of 20 and 22
    assert birds.outputs[1] == Output("ant-large", 1.0, 8, (22 * 2 + 8 * 8) / 1e6, 22)
    # Without counts, words of query and answer are counted.
    assert counting.outputs[1].output_tokens == words("2 x 2 = 4")


def test_graphrouter_has_no_money_in_cost():
    first, _ = load("graphrouter")
    assert first.outputs[1] == Output("ant-large", 1.0, 50, (4 * 2.0 + 50 * 8.0) / 1e6)
    assert first.outputs[0].quality == 0.4
    with pytest.raises(RecordError, match=r"row 1, column 'output_tokens'.*--output-tokens"):
        list(import_records(FILES / "graphrouter.csv", prices=PRICES))


def test_graphrouter_takes_cost_usd_where_there_is_one(tmp_path):
    path = rewritten(FILES / "graphrouter.csv", tmp_path / "g.csv", 1, cost_usd="0.5")
    first, _ = import_records(path, prices=PRICES, options=ImportOptions(output_tokens=9))
    assert first.outputs[0].cost_usd == 0.5


def test_aios():
    first, second = load("aios")
    assert first == Record(
        "What do lichens join?",
        "aios",
        7,
        (
            Output("ant-small", 0.0, 11, (7 * 0.1 + 11 * 0.4) / 1e6),
            Output("ant-large", 1.0, 25, (7 * 2 + 25 * 8) / 1e6),
        ),
        "aios/1",
    )
    assert second.outputs[0].quality == 1.0


@pytest.mark.parametrize(
    ("form", "row", "cells", "problem"),
    [
        ("routellm-gsm8k", 2, {"ant-small": "maybe"}, "row 2, column 'ant-small': got 'maybe'"),
        ("routellm-gsm8k", 1, {"prompt": ""}, "row 1, column 'prompt': got an empty text"),
        ("routerbench", 2, {"sample_id": "pond.val.0"}, "row 2, column 'sample_id': the id 'pond.val"),
        ("routerbench", 1, {"ant-small": "7"}, "row 1, column 'ant-small': got 7.0, wanted a quality in"),
        ("routerbench", 1, {"ant-small": ""}, "row 1, column 'ant-small': is missing"),
        ("routerbench", 1, {"ant-small|total_cost": "0"}, "row 1, column 'ant-small|total_cost': model 'ant"),
        ("routerbench", 1, {"split": "x"}, "row 1, column 'split': nobody knows this column"),
        ("graphrouter", 3, {"llm": "nobody"}, "row 3, column 'cost_usd': model 'nobody' has neither"),
        ("graphrouter", 2, {"llm": "ant-small"}, "row 2: model 'ant-small' answers this query a second time"),
    ],
)  # fmt: skip
def test_a_foreign_mistake_is_named(tmp_path, form, row, cells, problem):
    path = rewritten(FILES / SOURCES[form], tmp_path / "f.csv", row, **cells)
    prices = None if "total_cost" in problem else PRICES
    with pytest.raises(RecordError) as caught:
        list(import_records(path, form=form, prices=prices, options=ImportOptions(output_tokens=9)))
    assert f"f.csv, {problem}" in str(caught.value)


def test_json_forms_name_their_mistakes(tmp_path):
    rows = json.loads((FILES / "aios.json").read_text())
    rows[1]["outputs"][0]["correctness"] = float("nan")
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with pytest.raises(RecordError, match=r"a.json, row 2, column 'outputs\[0\].correctness': got nan"):
        list(import_records(tmp_path / "a.json", prices=PRICES))
    line = json.loads((FILES / "llmrouter.jsonl").read_text().splitlines()[0])
    (tmp_path / "l.jsonl").write_text(json.dumps({**line, "performance": 2}) + "\n")
    with pytest.raises(RecordError, match=r"l.jsonl, row 1, column 'performance': got 2, wanted a quality"):
        list(import_records(tmp_path / "l.jsonl", prices=PRICES))


def test_no_form_fits(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RecordError, match=r"no known form has the columns 'a', 'b'"):
        list(import_records(tmp_path / "x.csv"))
    with pytest.raises(RecordError, match="got 'raterbench', wanted auto or one of"):
        list(import_records(tmp_path / "x.csv", form="raterbench"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="the folder holds no"):
        list(import_records(tmp_path / "empty"))


def test_a_folder_and_several_files_are_one_set(tmp_path):
    for name in ("mmlu_a.csv", "mmlu_b.csv"):
        shutil.copy(FILES / "routellm/mmlu_pond_biology.csv", tmp_path / name)
    records = list(import_records(tmp_path, prices=PRICES))
    assert [record.id for record in records] == ["mmlu/a/1", "mmlu/a/2", "mmlu/b/1", "mmlu/b/2"]
    twice = [FILES / "records.jsonl", FILES / "records.jsonl"]
    with pytest.raises(
        RecordError, match=r"sources together, row 4, column 'id': the id 'g1' stands in row 1"
    ):
        list(import_records(twice))


def test_repricing_replaces_what_the_file_says():
    (first, *_) = import_records(
        FILES / "records.jsonl", prices={"ant-small": (0, 0), "ant-large": (1, 1)}, reprice=True
    )
    assert [output.cost_usd for output in first.outputs] == [0.0, 28 / 1e6]
    with pytest.raises(RecordError, match="no price list"):
        list(import_records(FILES / "records.jsonl", reprice=True))


@pytest.mark.parametrize("name", ["pool.toml", "prices.csv", "candidates.json"])
def test_price_lists(name):
    assert load_prices(FILES / name) == PRICES


def test_a_price_list_with_a_hole_is_refused(tmp_path):
    (tmp_path / "p.csv").write_text("model,input_price,output_price\na,1,\n")
    with pytest.raises(RecordError, match=r"p.csv, row 1, column 'output_price': is missing"):
        load_prices(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("model,input_price,output_price\na,1,2\na,1,3\n")
    with pytest.raises(RecordError, match="two prices"):
        load_prices(tmp_path / "p.csv")
    (tmp_path / "p.toml").write_text('schema_version = 1\n[[model]]\nname = "a"\ninput_price = 1\n')
    with pytest.raises(PoolError, match="output_price"):
        load_prices(tmp_path / "p.toml")


def test_the_report_by_hand():
    summary = Summary()
    records = list(summary.watch(read_records(FILES / "records.jsonl")))
    report = summary.report()
    assert (report.queries, report.outputs, report.repeated) == (3, 5, 0)
    assert report.coverage == pytest.approx(5 / 6)
    assert report.best_single == "ant-large"
    assert report.oracle_quality == pytest.approx((1 + 1 + 0.5) / 3)
    cheapest_best = (5.6e-6, 0.00038, 3.8e-6)
    assert report.oracle_cost_usd == pytest.approx(sum(cheapest_best) / 3)
    small = report.models[0]
    assert (small.queries, small.coverage, small.quality) == (3, 1.0, 0.5)
    assert small.total_usd == pytest.approx(sum(record.outputs[0].cost_usd for record in records))
    insects = report.datasets[0]
    assert (insects.dataset, insects.queries, insects.quality, insects.best_model) == (
        "insects",
        2,
        0.75,
        "ant-large",
    )
    assert any("ant-large is always right" in note for note in report.notes)


def test_the_report_tells_what_spoils_a_set():
    answer = (Output("only", 0.0, 5, 0.0),)
    summary = Summary()
    for text in ("One?", "one", "Two?"):
        summary.add(Record(text, "d", 2, answer))
    notes = " ".join(summary.report().notes)
    for sign in ("1 queries repeat", "one model alone", "only is always wrong", "only costs nothing"):
        assert sign in notes
    with pytest.raises(RecordError, match="no record"):
        Summary().report()


def test_mixed_scales_are_found():
    summary = Summary(quality_scale=10)
    for number in range(30):
        marks = (Output("tens", number % 11 / 10, 5, 0.1), Output("ones", number % 2 / 10, 5, 0.1))
        summary.add(Record(f"question {number}", "d", 2, marks))
    with pytest.raises(
        RecordError, match=r"record 1, column 'quality': mixed scales.*model 'ones' on dataset 'd'"
    ):
        summary.check_scales()
    fine = Summary(quality_scale=10)
    fine.add(Record("q", "d", 2, (Output("tens", 0.7, 5, 0.1), Output("zero", 0.0, 5, 0.1))))
    fine.check_scales()


def test_the_estimate_follows_a_real_tokenizer(data_dir):
    """Counts of cl100k_base on real questions; the prompts around them add a constant in each family."""
    import numpy as np

    table = RecordTable.read(data_dir / "qaserve_public.parquet", models=["gpt-4o"])
    family = np.array([name.split("/")[0] for name in table.dataset])
    estimate = np.array([estimate_tokens(text) for text in table.query])
    for name in ("mmlu_pro", "gsm8k", "math_l5"):
        mine, theirs = estimate[family == name], table.input_tokens[family == name]
        slope = np.polyfit(mine, theirs, 1)[0]
        assert 0.97 < slope < 1.06
        assert np.corrcoef(mine, theirs)[0, 1] > 0.99


def test_a_tokenizer_of_ones_own(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"two": 0, "words": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert token_counter(tmp_path / "tokenizer.json")("two words and more") == 4
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a tokenizer"):
        token_counter(tmp_path / "tokenizer.json")


def test_the_command_writes_and_reports(tmp_path, capsys):
    out = tmp_path / "out.parquet"
    arguments = ["import", FILES / "aios.json", "--pool", FILES / "pool.toml", "--out", out]
    assert run(*arguments, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["queries"] == 2
    assert told["written"] == str(out)
    assert len(list(read_records(out))) == 2
    assert run(*arguments, "--report") == 0
    shown = capsys.readouterr().out
    for part in ("ant-large *", "oracle", "0.5000", "2 records written to"):
        assert part in shown


def test_the_command_lists_bad_rows_and_writes_nothing(tmp_path, capsys):
    rows = [json.loads(line) for line in (FILES / "records.jsonl").read_text().splitlines()]
    rows[0]["outputs"][0]["quality"] = 3
    rows[2]["input_tokens"] = -2
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    assert run("import", tmp_path / "bad.jsonl", "-o", out) == 1
    error = capsys.readouterr().err
    assert "2 bad rows, nothing was written" in error
    assert "row 1, column 'outputs[0].quality'" in error
    assert "row 3, column 'input_tokens'" in error
    assert not out.exists()
    assert run("import", tmp_path / "bad.jsonl", "-o", out, "--skip-bad", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["skipped"]) == 2
    assert [record.id for record in read_records(out)] == ["g2"]


def test_the_command_reports_mixed_scales(tmp_path, capsys):
    outputs = [{"model": "tens", "quality": 9, "output_tokens": 1, "cost_usd": 1}]
    outputs.append({**outputs[0], "model": "ones", "quality": 1})
    row = {"query": "q", "dataset": "d", "input_tokens": 1, "outputs": outputs}
    (tmp_path / "m.jsonl").write_text((json.dumps(row) + "\n") * 25)
    assert run("import", tmp_path / "m.jsonl", "--quality-scale", 10) == 1
    assert "mixed scales" in capsys.readouterr().err
    assert run("import", tmp_path / "m.jsonl", "--no-such-option") == 2
