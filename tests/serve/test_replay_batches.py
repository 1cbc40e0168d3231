"""The replay server's batch endpoint, by the official client, and as the batch lane of `eccos run`."""

from __future__ import annotations

import json
import time

import numpy as np
import openai
import pytest

from eccos_rs.bulk.execute import ExecuteOptions, Execution
from eccos_rs.bulk.job import FileJob
from eccos_rs.bulk.source import Source
from eccos_rs.pools.pool import Pool
from eccos_rs.predict.protocol import Prediction
from eccos_rs.records.collect.endpoint import Retry
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.replay import ReplaySettings, build_replay_app
from tests.helpers.endpoints import pool_toml
from tests.helpers.serving import TEXTS, recorded, running

FAST = {"tokens_per_second": float("inf"), "ttft": 0.0}
URL = "/v1/chat/completions"


def served(**settings):
    return running(build_replay_app(recorded(), ReplaySettings(**FAST, **settings)))


def client_at(address):
    return openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def line(key, text, model="small", **changes):
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 64}
    return {"custom_id": key, "method": "POST", "url": URL, "body": body, **changes}


def begin(client, lines, window="24h", **more):
    raw = b"".join(json.dumps(each).encode() + b"\n" for each in lines)
    sent = client.files.create(file=("in.jsonl", raw), purpose="batch")
    made = client.batches.create(input_file_id=sent.id, endpoint=URL, completion_window=window, **more)
    return sent, made


def ended(client, name, seconds=15.0):
    end = time.monotonic() + seconds
    while (batch := client.batches.retrieve(name)).status in ("in_progress", "cancelling", "finalizing"):
        assert time.monotonic() < end
        time.sleep(0.02)
    return batch


def rows_of(client, name):
    return [json.loads(each) for each in client.files.content(name).text.splitlines()]


def test_a_batch_from_upload_to_both_files():
    with served(batch_seconds=0.3) as address, client_at(address) as client:
        lines = [line(f"r{at}", text) for at, text in enumerate(TEXTS[:20])] + [line("lost", "never asked")]
        sent, made = begin(client, lines, metadata={"job": "7"})
        assert (made.status, made.input_file_id, made.metadata) == ("in_progress", sent.id, {"job": "7"})
        assert client.files.retrieve(sent.id).filename == "in.jsonl"
        assert 0 <= client.batches.retrieve(made.id).request_counts.completed < 21
        batch = ended(client, made.id)
        counts = batch.request_counts
        assert (batch.status, counts.total, counts.completed, counts.failed) == ("completed", 21, 20, 1)
        good, bad = rows_of(client, batch.output_file_id), rows_of(client, batch.error_file_id)
        live = client.chat.completions.create(**lines[3]["body"])
        assert client.files.delete(sent.id).deleted
        with pytest.raises(openai.NotFoundError, match="no file"):
            client.files.content(sent.id)
    keys = [row["custom_id"] for row in good]
    assert sorted(keys) == sorted(f"r{at}" for at in range(20))
    assert keys != sorted(keys, key=lambda key: int(key[1:]))  # in any order
    same = next(row for row in good if row["custom_id"] == "r3")["response"]["body"]
    assert same["choices"][0]["message"]["content"] == live.choices[0].message.content
    assert same["usage"] == live.usage.model_dump(include=same["usage"].keys())
    assert [row["custom_id"] for row in bad] == ["lost"]
    assert bad[0]["response"]["status_code"] == 404
    assert "no answer of 'small'" in bad[0]["response"]["body"]["error"]["message"]
    assert bad[0]["error"] is None


def test_a_cancelled_batch_has_what_was_done():
    with served(batch_seconds=4.0) as address, client_at(address) as client:
        _, made = begin(client, [line(f"r{at}", text) for at, text in enumerate(TEXTS)])
        time.sleep(1.0)
        assert client.batches.cancel(made.id).status == "cancelling"
        batch = ended(client, made.id)
        assert batch.status == "cancelled"
        assert 0 < len(rows_of(client, batch.output_file_id)) == batch.request_counts.completed < len(TEXTS)
        with pytest.raises(openai.ConflictError, match="cancelled already"):
            client.batches.cancel(made.id)


def test_rows_that_are_never_answered_expire_with_the_window():
    stalled = {"fault_rate": 0.3, "faults": ("stall",), "batch_seconds": 0.1}
    with served(**stalled) as address, client_at(address) as client:
        _, made = begin(client, [line(f"r{at}", text) for at, text in enumerate(TEXTS)], window="1s")
        batch = ended(client, made.id)
        good, late = rows_of(client, batch.output_file_id), rows_of(client, batch.error_file_id)
    assert batch.status == "expired"
    assert len(good) + len(late) == len(TEXTS)
    assert len(late) > 4
    assert {row["error"]["code"] for row in late} == {"batch_expired"}
    assert {row["response"] for row in late} == {None}


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "empty_file"),
        ([line("a", TEXTS[0]), line("a", TEXTS[1])], "duplicate_custom_id"),
        ([line("a", TEXTS[0]), line("b", TEXTS[1], "large")], "mismatched_model"),
        ([line("a", TEXTS[0], url="/v1/embeddings")], "invalid_url"),
        ([{"custom_id": "a"}], "invalid_request"),
        (["text"], "invalid_request"),
    ],
)
def test_a_bad_file_fails_the_batch_and_says_why(lines, code):
    with served() as address, client_at(address) as client:
        batch = begin(client, lines)[1]
        assert batch.status == "failed"
        assert [each.code for each in batch.errors.data] == [code]


def test_bad_requests_are_told():
    with served() as address, client_at(address) as client:
        sent = client.files.create(file=("in.jsonl", b"not JSON\n\n"), purpose="batch")
        other = client.files.create(file=("in.jsonl", b"{}"), purpose="evals")
        asked = {"input_file_id": sent.id, "endpoint": URL, "completion_window": "24h"}
        made = client.batches.create(**asked)
        assert [(each.code, each.line) for each in made.errors.data] == [
            ("invalid_json_line", 1),
            ("invalid_json_line", 2),
        ]
        for change, words in (
            ({"endpoint": "/v1/embeddings"}, "endpoint must be"),
            ({"completion_window": "soon"}, "completion_window must be"),
            ({"input_file_id": other.id}, "wanted 'batch'"),
            ({"metadata": {"a": 1}}, "metadata must map"),
        ):
            with pytest.raises(openai.BadRequestError, match=words):
                client.batches.create(**{**asked, **change})
        with pytest.raises(openai.NotFoundError, match="no file 'none'"):
            client.batches.create(**{**asked, "input_file_id": "none"})
        with pytest.raises(openai.NotFoundError, match="no batch 'none'"):
            client.batches.retrieve("none")
        with pytest.raises(openai.BadRequestError, match="has no file"):
            client.post("/files", cast_to=object, files={"other": b"x"}, body={"purpose": "batch"})


def test_lists_are_paged_the_newest_first():
    with served() as address, client_at(address) as client:
        made = [begin(client, [line("a", TEXTS[0])])[1].id for _ in range(5)]
        first = client.batches.list(limit=2)
        assert [each.id for each in first.data] == made[:-3:-1]
        assert first.has_more
        assert [each.id for each in client.batches.list(limit=2)] == made[::-1]
        assert len(client.files.list().data) >= 5


def test_a_minute_that_is_used_up_is_429_and_says_when():
    with served(requests_per_minute=2) as address, client_at(address) as client:
        ask = {"model": "small", "messages": [{"role": "user", "content": TEXTS[0]}]}
        for _ in range(2):
            client.chat.completions.create(**ask)
        with pytest.raises(openai.RateLimitError, match="its minute is used up") as refused:
            client.chat.completions.create(**ask)
        client.chat.completions.create(**{**ask, "model": "large"})
    assert 50 <= int(refused.value.response.headers["retry-after"]) <= 61
    with served(tokens_per_minute=45) as address, client_at(address) as client:
        for _ in range(2):  # 8 and 12 tokens each
            client.chat.completions.create(**ask)
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**ask)


class Lanes:
    """The small model knows half of the sums, the large one all, in either lane."""

    models = ("small", "large", "large@batch")

    def predict(self, queries):
        n = len(queries)
        odd = [TEXTS.index(query.prompt) % 2 for query in queries]
        quality = np.array([[0.95 if each else 0.1, 0.97, 0.97] for each in odd], np.float32)
        tokens = np.tile(np.array([12, 24, 24], np.float32), (n, 1))
        return Prediction(self.models, quality, tokens, 0.01 * quality, 0.1 * tokens, np.full(n, 8))


def test_the_batch_lane_of_a_run(tmp_path):
    rows = (json.dumps({"id": f"r{at}", "query": text}) + "\n" for at, text in enumerate(TEXTS))
    (tmp_path / "in.jsonl").write_text("".join(rows))
    faulty = {"fault_rate": 0.2, "faults": ("500", "stall"), "batch_seconds": 0.2, "tokens_per_minute": 10**6}
    app = build_replay_app(recorded(), ReplaySettings(**FAST, **faulty))
    with running(app) as address:
        large = {"name": "large", "url": f"{address}/v1", "input_price": 3.0, "output_price": 12.0}
        lane = {**large, "input_price": 1.5, "output_price": 6.0, "lane": "batch", "lane_hours": 0.0005}
        small = {"name": "small", "url": f"{address}/v1", "input_price": 0.1, "output_price": 0.4}
        pool = Pool.load(pool_toml(tmp_path / "pool.toml", small, large, lane))
        job = FileJob(
            Source([tmp_path / "in.jsonl"], rows=20), Router(pool, Lanes()), Policy(min_quality=0.9),
            tmp_path / "out",
        )  # fmt: skip
        job.open(resume=True)
        _, answer, parts = job.plan()
        options = ExecuteOptions(
            retry=Retry(20, 0.01, 0.05), timeout=2.0, batch_poll=0.1, max_output_tokens=64
        )
        report = Execution(job, parts, answer, options).run()
    assert (report.stopped, report.answered) == ("done", len(TEXTS))
    # Some rows of the batches failed or expired: the same model answered them live.
    assert 5 < report.batched < 20
    assert 0 < report.moved < 20
    small = len(TEXTS) - report.batched - report.moved
    assert report.models == {"small": small, "large": report.moved, "large@batch": report.batched}
    parts = sorted((tmp_path / "out").glob("answers-*"))
    told = [json.loads(each) for part in parts for each in part.read_text().splitlines()]
    assert {row["answer"].split()[0] for row in told if row["model"] != "small"} == {"right"}
    assert report.spent_usd == pytest.approx(sum(row["cost_usd"] for row in told))
