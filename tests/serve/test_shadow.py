"""Routing beside what runs: the answers stay byte for byte, decisions and grades are written down."""

from __future__ import annotations

import time
from contextlib import contextmanager

import httpx
import pytest

from eccos_rs.cli.main import main
from eccos_rs.errors import InputError, PoolError
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router
from eccos_rs.serve.app import GatewaySettings, build_app
from eccos_rs.serve.shadow.record import read_rows
from eccos_rs.serve.shadow.settings import ShadowSettings, in_share
from eccos_rs.serve.shadow.texts import answer_text
from tests.helpers.endpoints import completion, misbehaving
from tests.helpers.serving import FixedPredictor, chat, pool_at, running

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"}}]}'
STREAM = b"\n\n".join([CHUNK % b"Yes, ", b": ping", CHUNK % b"7.", b"data: [DONE]", b""])
THOUGHT = b'{"type": "thinking", "thinking": "x"}'


def answering(handler, request):
    """Answer in fixed bytes; grade as a judge what the large model says at 9, all else at 4."""
    said = request.body["messages"][-1]["content"]
    if "[Answer to grade]" in said:
        handler.answer("Score: 9" if "[Answer to grade]\nlarge" in said else "Score: 4")
    elif request.body.get("stream"):
        handler.send(200, STREAM, **{"content-type": "text/event-stream"})
    else:
        handler.answer(request.body["model"])


class PickyPredictor(FixedPredictor):
    """Cannot forecast some texts, once the request itself has been served."""

    def predict(self, queries):
        if any("poison" in query.prompt for query in queries) and self.armed:
            raise RuntimeError("no forecast")
        return super().predict(queries)

    armed = False


@contextmanager
def shadowed(server, log, *, predictor=None, policy=None, **shadow):
    pool = pool_at(server.url.removesuffix("/v1"))
    router = Router(pool, predictor or FixedPredictor(), policy or Policy(min_quality=0.6, overload="raise"))
    settings = GatewaySettings(shadow=ShadowSettings(log=log, **{"model": "as-is", **shadow}))
    with running(build_app(router, settings)) as url:
        yield url


def ask(url, text="What is 3 + 4?", model="large", **fields):
    return httpx.post(f"{url}/v1/chat/completions", json=chat(text, model, **fields), timeout=30)


def rows(log, kind, count, seconds=15.0):
    """Wait for so many rows of a kind."""
    deadline = time.monotonic() + seconds
    while True:
        found = [row for row in read_rows(log) if row["kind"] == kind] if log.exists() else []
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{len(found)} of {count} rows of {kind}"
        time.sleep(0.02)


@pytest.mark.parametrize("model", ["as-is", "large"])
def test_answers_are_those_of_the_endpoint_byte_for_byte(tmp_path, model):
    asked = "large" if model == "as-is" else "eccos"
    with misbehaving(answering) as server, shadowed(server, tmp_path / "s.jsonl", model=model) as url:
        whole, stream = ask(url, model=asked), ask(url, model=asked, stream=True)
        direct = httpx.post(f"{server.url}/chat/completions", json=chat("What is 3 + 4?", "large"))
        assert whole.content == direct.content == completion("large")
        assert stream.content == STREAM
        assert {request.body["model"] for request in server.requests} == {"large"}
        first, _ = rows(tmp_path / "s.jsonl", "decision", 2)
    assert (first["arm"], first["as_is"], first["routed"]) == ("as-is", "large", "small")
    assert first["expected"]["as_is"]["quality"] == pytest.approx(0.9)
    assert first["expected"]["routed"]["quality"] == pytest.approx(0.6)
    assert first["expected"]["routed"]["usd"] < 0.1 * first["expected"]["as_is"]["usd"]
    # Settled by the usage that the endpoint states: 30 tokens in at 5, 4 out at 15 US dollars per million.
    assert first["usd"] == pytest.approx((30 * 5 + 4 * 15) / 1e6)
    assert "3 + 4" not in (tmp_path / "s.jsonl").read_text()


def test_a_share_is_routed_always_the_same_users(tmp_path):
    users = [f"user {number}" for number in range(40)]
    with misbehaving(answering) as server, shadowed(server, tmp_path / "s.jsonl", share=0.3) as url:
        for user in [*users, *users]:
            ask(url, f"question of {user}", user=user)
        found = rows(tmp_path / "s.jsonl", "decision", 80)
        served = {}
        for request in server.requests:
            served.setdefault(request.body["user"], set()).add(request.body["model"])
    assert all(len(models) == 1 for models in served.values())
    assert 3 <= sum(models == {"small"} for models in served.values()) <= 22
    routed = {row["unit"] for row in found if row["arm"] == "routed"}
    assert len(routed) == sum(models == {"small"} for models in served.values())
    # Of the other arm it is known what it would have cost.
    assert all(row["expected"]["as_is"]["quality"] == pytest.approx(0.9) for row in found)
    units = {row["unit"] for row in found}
    assert {unit for unit in units if in_share(unit, 0.3, "share")} == routed
    assert routed <= {unit for unit in units if in_share(unit, 0.5, "share")}


def test_a_judge_grades_both_under_its_ceiling(tmp_path):
    log = tmp_path / "s.jsonl"
    judge = {"judge": "large", "judge_share": 1.0, "judge_budget": 0.5}
    with misbehaving(answering) as server, shadowed(server, log, **judge) as url:
        for number in range(3):
            ask(url, f"question {number}")
        ask(url, "streamed", stream=True)
        found = rows(log, "judged", 4)
    whole = [row["quality"] for row in found if row["quality"]["as_is"] == 0.9]
    assert whole == [{"as_is": 0.9, "routed": 0.4}] * 3
    # The text of the stream went to the judge: "Yes, 7." is not what it likes.
    assert [row["quality"]["as_is"] for row in found if row["quality"]["as_is"] != 0.9] == [0.4]
    spent = sum(row["usd"] for row in found)
    assert 0 < spent < 0.5
    most = max(row["usd"] for row in rows(log, "judging", 4))
    before = len(list(read_rows(log)))
    # Gone on with, what was spent counts: there is no money for one more.
    again = {**judge, "judge_budget": spent + most / 2}
    with misbehaving(answering) as server, shadowed(server, log, **again) as url:
        ask(url, "question 9")
        rows(log, "decision", 5)
    assert len(list(read_rows(log))) == before + 1


@pytest.mark.parametrize("way", ["refuse", "prose", "break_off"])
def test_a_judge_that_fails_fails_no_request(tmp_path, way):
    def behaviour(handler, request):
        if "[Answer to grade]" not in request.body["messages"][-1]["content"]:
            handler.answer(request.body["model"])
        elif way == "prose":
            handler.answer("I like it.")
        else:
            handler.refuse(500) if way == "refuse" else handler.break_off()

    log, judge = tmp_path / "s.jsonl", {"judge": "large", "judge_share": 1.0, "judge_budget": 0.5}
    with misbehaving(behaviour) as server, shadowed(server, log, **judge) as url:
        assert [ask(url, f"question {n}").content for n in range(3)] == [completion("large")] * 3
        assert len(rows(log, "decision", 3)) == 3
        # What it may have cost stays booked.
        assert len(rows(log, "judging", 3)) == 3
    assert [row for row in read_rows(log) if row["kind"] == "judged"] == []


def test_a_shadow_that_fails_fails_no_request(tmp_path):
    log, predictor = tmp_path / "s.jsonl", PickyPredictor()

    def arming(handler, request):
        # The forecast fails from the moment on that the endpoint has the request.
        predictor.armed = "poison" in request.body["messages"][0]["content"]
        answering(handler, request)

    with misbehaving(arming) as server, shadowed(server, log, predictor=predictor) as url:
        assert ask(url, "plain").status_code == 200
        rows(log, "decision", 1)
        assert ask(url, "poison").content == completion("large")
        assert ask(url, "plain again").status_code == 200
        assert len(rows(log, "decision", 2)) == 2


def test_who_keeps_to_what_clients_ask_needs_them_to_ask(tmp_path):
    with misbehaving(answering) as server, shadowed(server, tmp_path / "s.jsonl") as url:
        got = ask(url, model="eccos")
        assert (got.status_code, got.json()["error"]["code"]) == (400, "invalid_model")
        assert ask(url, model="lrge").status_code == 404
        assert server.requests == []


def test_what_is_wrong_is_said_at_the_start(tmp_path):
    router = Router(pool_at("http://127.0.0.1:9"), FixedPredictor())

    def build(**fields):
        settings = ShadowSettings(**{"model": "as-is", "log": tmp_path / "s.jsonl", **fields})
        build_app(router, GatewaySettings(shadow=settings))

    with pytest.raises(PoolError, match="no model 'lareg' in the pool; did you mean 'large'"):
        build(model="lareg")
    with pytest.raises(PoolError, match="knows no model 'gpt5mega'"):
        build(judge="gpt5mega", judge_budget=1.0)
    with pytest.raises(InputError, match=r"share must lie in \[0, 1\], got 5"):
        build(share=5.0)
    with pytest.raises(InputError, match="judge_budget must be greater than 0"):
        build(judge="large")
    with pytest.raises(InputError, match=r"none/s\.jsonl: No such file"):
        build(log=tmp_path / "none" / "s.jsonl")
    (tmp_path / "other.jsonl").write_text('{"query": "a"}\n')
    with pytest.raises(InputError, match=r"other\.jsonl, line 1: this is no shadow log"):
        build(log=tmp_path / "other.jsonl")


@pytest.mark.parametrize(
    "line",
    ["--share 5%", "--judge large", "--shadow large --share lots", "--shadow large --share 500%",
     "--shadow large --judge large", "--shadow large --judge-share -1"],
)  # fmt: skip
def test_a_malformed_option_is_a_matter_of_usage(line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", *line.split()])
    assert ended.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("raw", "streamed", "text"),
    [
        (STREAM, True, "Yes, 7."),
        (b'{"content": [%s, {"type": "text", "text": "Yes."}]}' % THOUGHT, False, "Yes."),
        (b'{"output": [{"content": [{"type": "output_text", "text": "Yes."}]}]}', False, "Yes."),
        (b'{"candidates": [{"content": {"parts": [{"text": "x", "thought": true}]}}]}', False, ""),
        (b'{"candidates": [{"content": {"parts": [{"text": "Yes."}]}}]}', False, "Yes."),
        (b'data: {"type":"content_block_delta","delta":{"text":"Yes."}}\n\n', True, "Yes."),
        (b'data: {"type":"response.output_text.delta","delta":"Yes."}\n\n', True, "Yes."),
        (b'{"choices": [{"message": {"content": null, "tool_calls": []}}]}', False, ""),
        (b"<html>", False, ""),
        (b'data: {"torn', True, ""),
    ],
)  # fmt: skip
def test_the_text_of_an_answer_in_every_dialect(raw, streamed, text):
    assert answer_text(raw, streamed=streamed) == text
