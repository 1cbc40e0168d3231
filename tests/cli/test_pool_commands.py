"""`eccos pool`: a file by names, by keys or from LiteLLM's configuration; scores; what is wrong with it."""

from __future__ import annotations

import json

import pytest

from eccos_rs import Pool
from eccos_rs.cli.main import main
from tests.helpers.endpoints import misbehaving


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code or 0


@pytest.fixture
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from eccos_rs.catalogue.models import catalogue

    for provider in catalogue().providers.values():
        for key in provider.keys:
            monkeypatch.delenv(key, raising=False)


def test_new_writes_a_pool_of_names(tmp_path, capsys):
    out = tmp_path / "pool.toml"
    assert run("pool", "new", "gpt-5-mini", "claude-opus-5.5", "o3@low", "-o", out) == 0
    assert Pool.load(out).names == ("gpt-5-mini", "claude-opus-5.5", "o3")
    assert run("pool", "new", "gpt-5-mini", "-o", out) == 1
    assert "is there already" in capsys.readouterr().err
    assert run("pool", "new", "gpt-5-mini", "-o", out, "--force") == 0
    assert Pool.load(out).names == ("gpt-5-mini",)


def test_new_prints_where_no_file_is_named(capsys):
    assert run("pool", "new", "gpt-5-mini") == 0
    assert Pool.from_toml(capsys.readouterr().out).names == ("gpt-5-mini",)


def test_an_unknown_name_is_told_and_nothing_is_written(tmp_path, capsys):
    assert run("pool", "new", "gpt-5-minni", "-o", tmp_path / "pool.toml") == 1
    assert "near: gpt-5-mini" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert run("pool", "new") == 2


@pytest.mark.usefixtures("_no_keys")
def test_from_env_takes_models_of_the_providers_with_a_key(tmp_path, monkeypatch, capsys):
    assert run("pool", "new", "--from-env") == 1
    assert "no key of a known provider" in capsys.readouterr().err
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a")
    monkeypatch.setenv("GOOGLE_API_KEY", "b")
    assert run("pool", "new", "--from-env", "-o", tmp_path / "pool.toml") == 0
    pool = Pool.load(tmp_path / "pool.toml")
    assert {model.provider for model in pool} == {"anthropic", "gemini"}
    assert {model.endpoint.api_key_env for model in pool} == {"ANTHROPIC_API_KEY", "GOOGLE_API_KEY"}
    assert 2 <= len(pool) <= 6


CONFIG = """
model_list:
  - model_name: fast
    litellm_params: {model: openai/gpt-5-mini, api_key: os.environ/MY_KEY, rpm: 100, tpm: 100000}
  - model_name: fast
    litellm_params: {model: azure/gpt-5-mini, api_base: "https://x.example", rpm: 50}
  - model_name: own
    litellm_params: {model: openai/my-llama, api_base: "http://gpu:8000/v1", api_key: sk-secret-123}
    model_info: {input_cost_per_token: 0.0000001, output_cost_per_token: 0.0000002}
"""


def test_from_reads_a_litellm_configuration_and_copies_no_key(tmp_path, capsys):
    pytest.importorskip("yaml")
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    assert run("pool", "from", tmp_path / "config.yaml", "-o", tmp_path / "pool.toml") == 0
    pool = Pool.load(tmp_path / "pool.toml")
    assert pool.names == ("fast", "fast/azure", "own")
    assert pool["fast"].requests_per_minute == 100
    assert pool["fast/azure"].requests_per_minute == 50
    assert pool["fast/azure"].endpoint.base_url == "https://x.example"
    assert pool["fast"].tokens_per_minute == 100_000
    assert pool["fast"].endpoint.api_key_env == "MY_KEY"
    assert pool["own"].output_price == pytest.approx(0.2)
    assert pool["own"].endpoint.base_url == "http://gpu:8000/v1"
    said = capsys.readouterr().err
    assert "own: its key is written out and was not copied" in said
    assert "sk-secret-123" not in said + (tmp_path / "pool.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "not valid YAML"),
        ("model_list: []", "wanted a model_list"),
        ("model_list: [3]", "entry 0 of model_list needs litellm_params"),
        ("model_list: [{litellm_params: {}}]", "needs litellm_params.model"),
        ("model_list: [{litellm_params: {model: no-such-model}}]", "knows no model 'no-such-model'"),
    ],
)
def test_a_broken_configuration_is_told(text, sentence, tmp_path, capsys):
    pytest.importorskip("yaml")
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    assert run("pool", "from", tmp_path / "config.yaml") == 1
    assert sentence in capsys.readouterr().err


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "pool.toml"
    path.write_text(Pool.of("gpt-5-mini", "o3@low", "o3@high").to_toml(), encoding="utf-8")
    return path


def test_add_puts_a_model_or_its_scores_into_the_file(file, tmp_path):
    assert run("pool", "add", "claude-opus-5.5", "--pool", file) == 0
    own = ("--input-price", 0, "--output-price", 0, "--base-url", "http://gpu:8000/v1")
    assert run("pool", "add", "mine", "--pool", file, *own, "--scores", "mmlu_pro=0.7,gsm8k=.9") == 0
    (tmp_path / "scores.csv").write_text(
        "model,benchmark,score\nmine,mmlu_pro,0.72\no3,mmlu_pro,0.9\n", encoding="utf-8"
    )
    assert run("pool", "add", "mine", "--pool", file, "--scores", tmp_path / "scores.csv") == 0
    assert run("pool", "add", "o3", "--pool", file, "--mean-tokens", 900, "--source", "own harness") == 0
    pool = Pool.load(file)
    assert pool.names == ("gpt-5-mini", "o3@low", "o3@high", "claude-opus-5.5", "mine")
    assert dict(pool["mine"].scores) == {"mmlu_pro": 0.72, "gsm8k": 0.9}
    assert [pool[name].mean_tokens for name in ("o3@low", "o3@high")] == [900, 900]


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("gpt-5-mini",), 1, "is in"),
        (("gpt-5-mini", "--scores", "mmlu_pro=81"), 1, "as a percentage it would be 0.81"),
        (("gpt-5-mini", "--scores", "mmlu_pro=good"), 2, "must be a number from 0 to 1, got 'good'"),
        (
            ("gpt-5-mini", "--scores", "gsm8k=.9,gsm8k=.3"),
            2,
            "two scores of 'gpt-5-mini' on 'gsm8k'",
        ),
        (("gpt-5-mini", "--scores", "mmlu_pro=.9,MMLU-Pro=.3"), 1, "are one benchmark, with two scores"),
        (("gpt-5-mini", "--scores", "no-such.csv"), 1, "neither BENCHMARK=SHARE nor a file"),
        (("zzz",), 1, "knows no model 'zzz'"),
        (("zzz", "--input-price", "1"), 2, "needs both"),
        (("openai/gpt-5-mini",), 1, "are the same model"),
    ],
)
def test_add_refuses_what_makes_no_sense_and_leaves_the_file(arguments, status, sentence, file, capsys):
    before = file.read_text("utf-8")
    assert run("pool", "add", *arguments, "--pool", file) == status
    assert sentence in capsys.readouterr().err
    assert file.read_text("utf-8") == before


TORN = "mmlu_pro=0.9,mmlu_pro/law=0.1,mmlu_pro/math=0.1,mmlu_pro/physics=0.1,mmlu_pro/history=0.1"


@pytest.mark.parametrize(
    ("name", "scores", "sentence"),
    [
        ("gpt-5-mini", TORN, "scores contradict: mmlu_pro is 0.90, its 4 categories are 0.10 on average"),
        ("gpt-4o-2024-05-13", "gsm8k=0.3", "scores contradict: gsm8k is 0.30, zeroeval has 0.95"),
        ("gpt-5-mini", "mmlu_proo=0.8", "not used, no board lists it: mmlu_proo (near mmlu_pro)"),
    ],
)
def test_scores_that_cannot_be_right_are_told_by_add_and_by_check(name, scores, sentence, file, capsys):
    assert run("pool", "add", "gpt-4o-2024-05-13", "--pool", file) == 0
    capsys.readouterr()
    assert run("pool", "add", name, "--pool", file, "--scores", scores) == 0
    assert f"{name}: {sentence}" in capsys.readouterr().err
    run("pool", "check", file, "--json")
    (row,) = [each for each in json.loads(capsys.readouterr().out) if each["model"] == name]
    assert sentence in row["remarks"]


def test_a_better_score_takes_the_place_of_one_that_was_spelt_otherwise(file):
    assert run("pool", "add", "gpt-5-mini", "--pool", file, "--scores", "MMLU-Pro=0.3,gsm8k=0.9") == 0
    assert run("pool", "add", "gpt-5-mini", "--pool", file, "--scores", "mmlu_pro=0.8") == 0
    assert dict(Pool.load(file)["gpt-5-mini"].scores) == {"gsm8k": 0.9, "mmlu_pro": 0.8}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("benchmark,score\nx,0.1\nx,0.2\n", "two scores of 'gpt-5-mini' on 'x': 0.1 and 0.2"),
        ("model,benchmark,score\nother,x,0.1\n", "holds no score of 'gpt-5-mini'"),
        ("a,b\n1,2\n", "wanted a CSV with columns benchmark and score"),
    ],
)
def test_a_table_of_scores_that_makes_no_sense_is_told(text, sentence, file, tmp_path, capsys):
    (tmp_path / "s.csv").write_text(text, encoding="utf-8")
    assert run("pool", "add", "gpt-5-mini", "--pool", file, "--scores", tmp_path / "s.csv") == 2
    assert sentence in capsys.readouterr().err


def test_two_names_of_one_model_in_a_file_are_told(tmp_path, capsys):
    table = '[[model]]\nname = "{}"\ninput_price = 1\noutput_price = 2\n'
    names = ("gpt-5-mini", "openai/gpt-5-mini", "gpt-5", "mine")
    (tmp_path / "pool.toml").write_text("schema_version = 1\n" + "".join(map(table.format, names)), "utf-8")
    assert run("pool", "check", tmp_path / "pool.toml", "--json") == 0
    told = {row["model"]: row["remarks"] for row in json.loads(capsys.readouterr().out)}
    same = {name: [each for each in told[name] if "the same model as" in each] for name in names}
    assert same["gpt-5-mini"] == ["the same model as openai/gpt-5-mini: take one out"]
    assert same["openai/gpt-5-mini"] == ["the same model as gpt-5-mini: take one out"]
    assert same["gpt-5"] == same["mine"] == []


@pytest.mark.usefixtures("_no_keys")
def test_from_env_does_not_propose_a_model_that_is_named_already(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a")
    assert run("pool", "new", "--from-env", "-o", tmp_path / "p.toml") == 0
    proposed = Pool.load(tmp_path / "p.toml").names
    assert run("pool", "new", f"openai/{proposed[0]}", "--from-env", "-o", tmp_path / "q.toml") == 0
    assert Pool.load(tmp_path / "q.toml").names == (f"openai/{proposed[0]}", *proposed[1:])


OLD = """schema_version = 1
[[model]]
name = "gpt-4o"
input_price = 5
output_price = 15
price_date = "2024-12"
[[model]]
name = "my-own-thing"
input_price = 1
output_price = 1
[model.endpoint]
base_url = "http://localhost:1"
api_key_env = "NO_SUCH_KEY_AT_ALL"
"""


def test_check_says_what_is_old_unknown_and_not_set(tmp_path, capsys):
    (tmp_path / "pool.toml").write_text(OLD, encoding="utf-8")
    assert run("pool", "check", tmp_path / "pool.toml", "--json") == 1
    first, second = json.loads(capsys.readouterr().out)
    assert any("days old (2024-12)" in remark for remark in first["remarks"])
    assert any("the catalogue says 2.5 / 10" in remark for remark in first["remarks"])
    assert first["problems"] == []
    assert any("in no catalogue" in remark for remark in second["remarks"])
    assert second["problems"] == ["the environment variable NO_SUCH_KEY_AT_ALL is not set"]


def answer(handler, request):
    handler.send(200, json.dumps({"choices": [{"message": {"content": "H"}}]}).encode())


def refuse(handler, request):
    handler.send(401, b'{"error": {"message": "no such key"}}')


@pytest.mark.parametrize(("behaviour", "status", "answers"), [(answer, 0, True), (refuse, 1, False)])
def test_a_probe_asks_for_one_token(behaviour, status, answers, tmp_path, capsys):
    with misbehaving(behaviour) as server:
        pool = Pool.of("gpt-5-mini")
        endpoint = type(pool[0].endpoint)(server.url)
        (tmp_path / "pool.toml").write_text(pool.replace("gpt-5-mini", endpoint=endpoint).to_toml(), "utf-8")
        assert run("pool", "check", tmp_path / "pool.toml", "--probe", "--json") == status
        (row,) = json.loads(capsys.readouterr().out)
        assert row["answers"] is answers
        assert server.requests[0].body["max_tokens"] == 1
        if not answers:
            assert "401" in row["problems"][0]
