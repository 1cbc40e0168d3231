"""Answers cut off by the limit of tokens, calls that never left, estimates, chats."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from eccos_rs.errors import RecordError
from eccos_rs.pools.pool import Pool
from eccos_rs.records import read_records
from eccos_rs.records.collect import CollectOptions, collect, estimate, read_tasks
from eccos_rs.records.collect.endpoint import Retry
from tests.helpers.endpoints import Handler, Misbehaving, misbehaving, pool_toml, sum_tasks

if TYPE_CHECKING:
    from pathlib import Path

QUICK = Retry(attempts=2, first_wait=0.01, longest_wait=0.05)


def gather(tmp_path: Path, server: Misbehaving, **options):
    pool = pool_toml(tmp_path / "pool.toml", {"name": "m", "url": server.url})
    chosen = CollectOptions(**{"retry": QUICK, **options})
    return collect(tmp_path / "tasks.jsonl", Pool.load(pool), tmp_path / "out.jsonl", options=chosen)


def long_winded(handler: Handler, request) -> None:
    """Need 50 tokens for an answer: fewer cut it off, as a reasoning model is cut off."""
    whole = request.body["max_tokens"] >= 50
    handler.answer("Answer: 7" if whole else "", "stop" if whole else "length", completion_tokens=16)


def test_a_cut_answer_is_reported_and_not_graded(tmp_path):
    sum_tasks(tmp_path / "tasks.jsonl", 3)
    with misbehaving(long_winded) as server:
        short = gather(tmp_path, server, max_output_tokens=16)
        assert (short.stopped, short.answered, short.cut, short.records) == ("cut", 0, 3, 0)
        assert short.spent_usd == pytest.approx(3 * (30 + 16 * 4) / 1e6)
        assert not (tmp_path / "out.jsonl").exists()
        again = gather(tmp_path, server, max_output_tokens=16)
        assert (again.stopped, len(server.requests)) == ("cut", 3)  # the same limit would cut them again
        long = gather(tmp_path, server, max_output_tokens=64)
    assert (long.stopped, long.answered, long.cut, len(server.requests)) == ("done", 3, 0, 6)
    assert long.spent_usd == pytest.approx(6 * (30 + 16 * 4) / 1e6)
    assert [record.outputs[0].quality for record in read_records(tmp_path / "out.jsonl")] == [1.0] * 3


def dead_port() -> int:
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        return spare.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "no-such-host.invalid"])
def test_a_call_that_never_left_costs_nothing(tmp_path, host):
    sum_tasks(tmp_path / "tasks.jsonl", 2)
    nowhere = Misbehaving(f"http://{host.format(port=dead_port())}/v1")
    for _ in range(3):
        summary = gather(tmp_path, nowhere, max_cost=0.01, max_output_tokens=64)
    assert (summary.stopped, summary.spent_usd, summary.unsure_usd) == ("failed", 0.0, 0.0)
    with misbehaving(lambda handler, _: handler.answer()) as server:
        assert gather(tmp_path, server, max_cost=0.01, max_output_tokens=64).stopped == "done"


def test_a_certificate_that_is_not_trusted_costs_nothing(tmp_path):
    import ssl
    import threading

    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"]
    command = ["openssl", *made, "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    sum_tasks(tmp_path / "tasks.jsonl", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        url = f"https://localhost:{listener.getsockname()[1]}/v1"
        summary = gather(tmp_path, Misbehaving(url))
        listener.shutdown(socket.SHUT_RDWR)
    assert (summary.stopped, summary.unsure_usd) == ("failed", 0.0)


def command(tmp_path: Path, url: str, *more: str) -> subprocess.CompletedProcess[str]:
    pool = pool_toml(tmp_path / "pool.toml", {"name": "m", "url": url})
    line = ["collect", "tasks.jsonl", "--pool", str(pool), "-o", "out.jsonl", "--attempts", "1", *more]
    return subprocess.run(
        [sys.executable, "-m", "eccos_rs.cli.main", *line],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_exit_status_is_as_documented(tmp_path):
    sum_tasks(tmp_path / "tasks.jsonl", 2)
    with misbehaving(long_winded) as server:
        done = command(tmp_path, server.url, "--max-output-tokens", "16")
        assert done.returncode == 1
        assert "2 answers cut off by the limit of tokens and left out" in done.stdout
        assert command(tmp_path, server.url, "--max-output-tokens", "64").returncode == 0
    sum_tasks(tmp_path / "tasks.jsonl", 4)
    assert command(tmp_path, f"http://127.0.0.1:{dead_port()}/v1").returncode == 1
    assert command(tmp_path, "http://x/v1", "--no-such-option").returncode == 2


def test_an_estimate_asks_nothing_and_learns_lengths(tmp_path):
    sum_tasks(tmp_path / "tasks.jsonl", 4)
    with misbehaving(lambda handler, _: handler.answer()) as server:
        done = command(tmp_path, server.url, "--estimate", "--json")
        told = json.loads(done.stdout)
        assert not server.requests
        assert told["models"][0]["calls"] == 4
        assert 0 < told["cost_usd"] < told["most_usd"]
        assert not told["learned"]
        assert not (tmp_path / "out.jsonl.journal.jsonl").exists()
        gather(tmp_path, server)
    sum_tasks(tmp_path / "tasks.jsonl", 6)
    found = estimate(
        read_tasks(tmp_path / "tasks.jsonl"), Pool.load(tmp_path / "pool.toml"), tmp_path / "out.jsonl"
    )
    assert found.learned
    assert (found.models[0].calls, found.models[0].output_tokens) == (2, 8)
    assert found.spent_usd == pytest.approx(4 * 46e-6)


def test_chats_and_system_prompts_are_asked_as_they_are(tmp_path):
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "3 + 4?"},
    ]
    rows = [
        {"messages": chat, "kind": "numeric", "answer": 7},
        {"query": "What is 2 + 5?", "system": "Be short.", "kind": "numeric", "answer": 7},
        {"query": "What is 2 + 5?", "kind": "numeric", "answer": 7},
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with misbehaving(lambda handler, _: handler.answer()) as server:
        summary = gather(tmp_path, server, concurrency=1)
    assert (summary.stopped, summary.answered) == ("done", 3)
    sent = [request.body["messages"] for request in server.requests]
    assert [message["role"] for message in sent[0]] == ["user", "assistant", "user"]
    assert sent[0][2]["content"].startswith("3 + 4?\n\nThink it through")
    assert sent[1][0] == {"role": "system", "content": "Be short."}
    assert len(sent[2]) == 1
    queries = [record.query for record in read_records(tmp_path / "out.jsonl")]
    assert queries[0].startswith("3 + 4?")
    assert queries[1:] == ["What is 2 + 5?\n\nBe short.", "What is 2 + 5?"]


def test_tasks_of_a_table_have_empty_cells_and_own_columns(tmp_path):
    (tmp_path / "t.csv").write_text(
        ",question_id,query,kind,answer,tolerance,max_output_tokens\n"
        "0,a,3 + 4?,numeric,7,,20\n1,b,Say it.,exact,it,,\n"
    )
    with pytest.raises(RecordError, match=r"question_id.*--ignore-column question_id"):
        read_tasks(tmp_path / "t.csv")
    first, second = read_tasks(tmp_path / "t.csv", ignore=["question_id"])
    assert (first.max_output_tokens, first.tolerance, second.max_output_tokens) == (20, 1e-4, None)
