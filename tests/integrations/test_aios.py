"""The drop-in for AIOS: its call, its lists of candidates, its concurrency, its bootstrap file."""

from __future__ import annotations

import json
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError, PoolError, RecordError
from eccos_rs.integrations.aios import EccosRouting
from eccos_rs.integrations.bootstrap import StorePredictor
from eccos_rs.pools.pool import LLM, Pool
from eccos_rs.predict.protocol import Prediction
from eccos_rs.routing.policy import Policy
from tests.helpers.sessions import ByNumber, make_pool, population

CONFIGS = [{"name": "large", "backend": "openai"}, {"name": "small", "backend": "ollama"}, {"name": "mid"}]
ALL = [{"name": "large"}, {"name": "small"}, {"name": "mid"}]


@dataclass
class LLMConfig:
    """As AIOS's adapter keeps them."""

    name: str
    backend: str | None = None
    hostname: str | None = None


def chat(text):
    return [{"role": "system", "content": ""}, {"role": "user", "content": text}]


def make(configs=CONFIGS, **options):
    known = {"predictor": ByNumber(population(512)), "pool": make_pool()}
    return EccosRouting(configs, **(known | options))


def test_indices_count_in_the_list_of_configs():
    routing = make(performance_requirement=0.95)
    got = routing.get_model_idxs([ALL] * 8, [chat(str(at)) for at in range(8)])
    assert all(type(at) is int for at in got)
    assert set(got) == {0}  # the strongest, whose place in the list is 0
    cheap = make(policy=Policy(quality_value=0.0))
    assert cheap.get_model_idxs([ALL] * 4, [chat(str(at)) for at in range(4)]) == [1] * 4


def test_configs_may_be_objects_and_queries_texts():
    routing = make([LLMConfig("large"), LLMConfig("small", backend="ollama")])
    (got,) = routing.get_model_idxs([[{"name": "small", "backend": "ollama"}]], ["7"])
    assert got == 1


def test_each_query_keeps_to_its_own_candidates():
    routing = make(performance_requirement=0.9)
    lists = [[{"name": "small"}], [{"name": "mid"}, {"name": "small"}], [], None, ["large"]]
    got = routing.get_model_idxs(lists, [chat(str(at)) for at in range(5)])
    assert got[0] == 1
    assert got[1] in (1, 2)
    assert got[4] == 0


def test_the_mean_is_kept_over_the_stream_at_less_cost_than_the_threshold_rule():
    known = population(512)
    routing = make(performance_requirement=0.65)
    chosen = []
    for start in range(0, 512, 8):
        chosen += routing.get_model_idxs([ALL] * 8, [chat(str(at)) for at in range(start, start + 8)])
    columns = np.array([2, 0, 1])[chosen]
    rows = np.arange(512)
    cost = routing.router.costs(known.select(("large", "small", "mid")))
    assert known.quality[rows, columns].mean() == pytest.approx(0.65, abs=0.015)
    # AIOS's rule: the cheapest whose prediction passes a threshold, else the best.
    quality = known.select(("large", "small", "mid")).quality
    best = []
    for threshold in np.linspace(0.3, 0.9, 61):
        passing = np.where(quality >= threshold, cost, np.inf)
        rule = np.where(np.isfinite(passing.min(axis=1)), passing.argmin(axis=1), quality.argmax(axis=1))
        if quality[rows, rule].mean() >= known.quality[rows, columns].mean():
            best.append(cost[rows, rule].sum())
    assert cost[rows, chosen].sum() < min(best)


def test_concurrency_comes_from_the_configuration():
    config = {
        "llms": {
            "models": [{"name": "large", "max_concurrency": 2}, {"name": "small"}],
            "router": {"strategy": "eccos", "max_concurrency": 5},
        }
    }
    routing = make(policy=Policy(quality_value=10.0), config=config)
    assert [llm.slots for llm in routing.router.pool] == [2, 5, 5]
    got = routing.get_model_idxs([ALL] * 12, [chat(str(at)) for at in range(12)])
    assert np.bincount(got, minlength=3).tolist() == [2, 5, 5]
    # Twice as many go in two waves, each within the concurrency.
    got = routing.get_model_idxs([ALL] * 24, [chat(str(at)) for at in range(24)])
    assert np.bincount(got, minlength=3).tolist() == [4, 10, 10]
    with pytest.raises(PoolError, match="max_concurrency"):
        make(config={"llms": {"router": {"max_concurrency": 0}}})


def test_prices_come_from_the_configuration_though_the_objects_do_not_keep_them():
    stated = {"input_cost_per_token": 3e-6, "output_cost_per_token": 9e-6}
    config = {"llms": {"models": [{"name": "large", "backend": "openai", **stated}, {"name": "small"}]}}
    routing = make([LLMConfig("large"), LLMConfig("small")], config=config)
    assert [llm.input_price for llm in routing.router.pool] == pytest.approx([3.0, 0.1])
    assert [llm.output_price for llm in routing.router.pool] == pytest.approx([9.0, 0.4])


@pytest.mark.parametrize("empty", [[], None, ""])
def test_a_call_without_messages_does_not_fail_the_batch(empty):
    class Constant(ByNumber):
        def predict(self, queries):
            return self.known.rows(np.zeros(len(queries), dtype=np.int64))

    routing = make(predictor=Constant(population(512)))
    got = routing.get_model_idxs([ALL, ALL], [empty, chat("1")])
    assert set(got) <= {0, 1, 2}


def test_unknown_names_are_taken_out_and_logged(caplog):
    routing = make([*CONFIGS, {"name": "gpt-9", "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}])
    assert "model 'gpt-9' is not routed by eccos" in caplog.text
    assert "gpt-9" not in routing.router.pool.names
    names = [config["name"] for config in CONFIGS]
    lists = [
        [{"name": "lage"}, {"name": "small"}],
        [{"name": "lage"}],
        [{"backend": "openai"}],
        [{"name": "gpt-9"}],
    ]
    got = routing.get_model_idxs(lists, [chat(str(at)) for at in range(4)])
    assert got == [names.index("small"), 0, 0, 3]
    assert caplog.text.count("model 'lage' is not routed") == 1


def test_a_model_that_the_kernel_registers_at_run_time_stops_nothing():
    routing = make(list(CONFIGS))
    # As AIOS does it: the new list is put in place of the router's own.
    routing.llm_configs = [*routing.llm_configs, {"name": "qwen2.5:7b", "backend": "ollama"}]
    late = {"name": "qwen2.5:7b", "backend": "ollama"}
    got = routing.get_model_idxs([[late], ALL, [late, {"name": "small"}]], [chat("1"), chat("2"), chat("3")])
    assert got[0] == 3
    assert got[1] in (0, 1, 2)
    assert routing.llm_configs[got[2]]["name"] == "small"


def test_an_unknown_price_is_logged_and_never_0(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "litellm", types.SimpleNamespace(model_cost={"gpt-4o": {}}))
    routing = make([{"name": "mid"}], pool=Pool([LLM("other", 1, 1)]))
    assert routing.router is None
    assert "no input price of model 'mid'" in caplog.text
    assert routing.get_model_idxs([[{"name": "mid"}], None], [chat("1"), chat("2")]) == [0, 0]
    make([{"name": "mid", "input_cost_per_token": 1e-6}], pool=None)
    assert "no output price" in caplog.text


def test_a_small_first_batch_does_not_set_the_price_of_the_next():
    alone = make(performance_requirement=0.8)
    warmed = make(performance_requirement=0.8)
    warmed.get_model_idxs([ALL], [chat("7")])
    queries = [chat(str(at)) for at in range(200)]
    first, second = (each.get_model_idxs([ALL] * 200, queries) for each in (alone, warmed))
    costs = [_cost(alone, queries, got) for got in (first, second)]
    assert costs[1] == pytest.approx(costs[0], rel=0.1)


def _cost(routing, queries, got):
    batch = [Query(messages=tuple(query)) for query in queries]
    cost = routing.router.costs(routing.router.predict(batch))
    columns = [routing.router.pool.index(routing.llm_configs[at]["name"]) for at in got]
    return float(cost[np.arange(len(got)), columns].sum())


def test_the_concurrency_holds_at_the_endpoint_in_every_wave():
    routing = make(config={"llms": {"router": {"max_concurrency": 4}}})
    running, most, done = 0, 0, []
    lock = threading.Lock()

    def process(model_idx, tasks):
        def ask(task):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.005)
            with lock:
                running -= 1
            return task

        with ThreadPoolExecutor(len(tasks)) as pool:
            return list(pool.map(ask, tasks))

    limited = routing.limited(process)
    done = limited(0, list(range(11)))
    assert done == list(range(11))
    assert most == 4
    assert limited(0, []) == []


def test_prices_stated_per_token():
    new = {"name": "mid", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
    old = {"name": "small", "cost_per_input_token": 3e-6, "cost_per_output_token": 0}
    pool = make([new, old], pool=None).router.pool
    assert (pool["mid"].input_price, pool["mid"].output_price) == pytest.approx((1.0, 2.0))
    assert (pool["small"].input_price, pool["small"].output_price) == pytest.approx((3.0, 0.0))


def test_aliases_join_two_names_of_one_model():
    configs = [{"name": "openai/mid:latest"}]
    routing = make(configs, aliases={"openai/mid:latest": "mid"})
    assert routing.get_model_idxs([None], [chat("3")]) == [0]
    assert routing.router.pool[0].input_price == 0.5


def test_malformed_calls(caplog):
    routing = make()
    assert routing.get_model_idxs([], []) == []
    with pytest.raises(InputError, match="2 entries and queries 1"):
        routing.get_model_idxs([ALL, ALL], [chat("1")])
    # A malformed message falls back to its first candidate, and the others are routed.
    got = routing.get_model_idxs([ALL, [{"name": "mid"}], ALL], [chat("1"), [{"role": "user"}], chat("2")])
    assert routing.llm_configs[got[1]]["name"] == "mid"
    assert got[0] == make().get_model_idxs([ALL, ALL], [chat("1"), chat("2")])[0]
    with pytest.raises(InputError, match="budget is for a session"):
        make(policy=Policy(budget=1.0, per="day"))
    blind = Pool([LLM("large", 1, 1), LLM("small", 1, 1), LLM("mid", 1, 1)])
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    picture = [{"role": "user", "content": [{"type": "text", "text": "7"}, image]}]
    assert make(pool=blind).get_model_idxs([ALL], [picture]) == [0]
    assert "no vision" in caplog.text


class Encoder:
    """Embeds a text as where its words lie on a circle; words of one topic lie close together."""

    models = ("unused",)
    TOPICS = ("sum", "poem", "law")

    def predict(self, queries):
        vectors = np.zeros((len(queries), 4), dtype=np.float32)
        for row, query in enumerate(queries):
            at = next(i for i, topic in enumerate(self.TOPICS) if topic in query.prompt)
            vectors[row, at] = 1.0
            vectors[row, 3] = 0.1 * (len(query.prompt) % 7)
        ones = np.ones((len(queries), 1), dtype=np.float32)
        return Prediction(
            models=self.models,
            quality=ones,
            output_tokens=ones,
            quality_std=ones,
            log_tokens_std=ones,
            input_tokens=np.array([len(query.prompt) for query in queries]),
            embedding=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
        )


def bootstrap_file(path, lines=False):
    rows = []
    for at in range(60):
        topic = Encoder.TOPICS[at % 3]
        rows.append(
            {
                "query": f"a {topic} number {at}",
                "input_token_length": 5,
                "outputs": [
                    {
                        "model_name": "gpt-4o-mini", "correctness": topic != "sum",
                        "output_token_length": 100, "prediction": "…",
                    },
                    {"model_name": "gpt-4o", "correctness": True, "output_token_length": 300},
                    {"model_name": "somebody else", "correctness": 0.5, "output_token_length": 1},
                ],
            }
        )  # fmt: skip
    text = "\n".join(map(json.dumps, rows)) if lines else json.dumps(rows)
    path.write_text(text, encoding="utf-8")
    return path


PRICED = [
    {"name": "gpt-4o", "input_cost_per_token": 2.5e-6, "output_cost_per_token": 1e-5},
    {"name": "gpt-4o-mini", "input_cost_per_token": 1.5e-7, "output_cost_per_token": 6e-7},
]


@pytest.mark.parametrize("lines", [False, True])
def test_the_bootstrap_file_is_a_retrieval_store(tmp_path, lines):
    path = bootstrap_file(tmp_path / ("boot.jsonl" if lines else "boot.json"), lines)
    routing = EccosRouting(PRICED, path, performance_requirement=0.9, n_similar=16, predictor=Encoder())
    questions = [chat(f"another {topic}") for topic in ("sum", "poem", "law")]
    candidates = [[{"name": "gpt-4o"}, {"name": "gpt-4o-mini"}]] * 3
    assert routing.get_model_idxs(candidates, questions) == [0, 1, 1]
    prediction = routing.router.predict(["a new sum", "a new poem"])
    assert prediction.quality[0, 1] < 0.2
    assert prediction.quality[1, 1] > 0.8
    assert prediction.output_tokens[0] == pytest.approx([300, 100], rel=0.1)
    assert prediction.similarity.min() > 0.9


def test_a_store_learns_like_any_other(tmp_path):
    store = StorePredictor.load(bootstrap_file(tmp_path / "b.json"), Encoder(), ["gpt-4o-mini"], neighbours=8)
    (query,) = [type("Q", (), {"prompt": "one more law"})()]
    before = store.predict([query])
    store.retrieval.add(before.embedding[0], 0, 0.0)
    assert store.predict([query]).quality[0, 0] < before.quality[0, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[{"query": 3, "outputs": []}]', "query must be a text"),
        ('[{"query": "a sum", "outputs": "x"}]', "outputs must be a list"),
        ('[{"query": "a sum", "outputs": [{"correctness": 1}]}]', "model_name"),
        (
            '[{"query": "", "outputs": [{"model_name": "m", "correctness": 7, "output_token_length": 9}]}]',
            r"correctness must be .* got 7",
        ),
        (
            '[{"query": "a sum", "outputs": [{"model_name": "gpt-4o", "correctness": true}]}]',
            "output_token_length must be",
        ),
    ],
)
def test_a_malformed_bootstrap_file_is_refused(tmp_path, text, said):
    path = tmp_path / "b.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=said):
        EccosRouting(PRICED, path, predictor=Encoder())


def test_a_bootstrap_file_that_is_not_there(tmp_path):
    with pytest.raises(RecordError, match="no such file"):
        EccosRouting(PRICED, tmp_path / "b.json", predictor=Encoder())
    with pytest.raises(InputError, match="nothing is downloaded"):
        EccosRouting(PRICED, "https://drive.example/file", predictor=Encoder())
    routing = EccosRouting(
        [*PRICED, {**PRICED[0], "name": "gpt-9"}], bootstrap_file(tmp_path / "b.json"), predictor=Encoder()
    )
    assert "gpt-9" not in routing.router.pool.names


def test_the_shipped_bundle_routes_for_aios():
    routing = EccosRouting([{"name": "gpt-4o"}, {"name": "llama-3.1-8b"}], performance_requirement=0.5)
    got = routing.get_model_idxs([None, [{"name": "gpt-4o"}]], [chat("What is 2 + 2?"), chat("Prove it.")])
    assert got[1] == 0
    assert got[0] in (0, 1)
