"""`eccos pool exam`: asks over real HTTP, grades by rule, goes on where it was stopped, keeps to its
money."""

from __future__ import annotations

import json
import re

import pytest

from eccos_rs import LLM, Endpoint, InputError, Pool, RecordError
from eccos_rs.catalogue import exam as shipped
from eccos_rs.catalogue.exam import Board, question_key
from eccos_rs.cli.main import main
from eccos_rs.records.exam import plan_exam, read_questions, run_exam
from tests.helpers.endpoints import misbehaving

KINDS = ("add", "multiply", "subtract")


def questions(n: int) -> list[dict[str, object]]:
    made = []
    for at in range(n):
        kind, a, b = KINDS[at % 3], 3 + at, 2 + at % 7
        answer = {"add": a + b, "multiply": a * b, "subtract": a - b}[kind]
        made.append(
            {"query": f"{kind} {a} and {b}", "kind": "numeric", "answer": answer, "dataset": f"sums/{kind}"}
        )
    return made


def solver(handler, request) -> None:
    """Answers right, but multiplies wrongly; the slower of two models cannot subtract either."""
    kind, a, b = re.match(r"(\w+) (\d+) and (\d+)", request.body["messages"][0]["content"]).groups()
    value = {"add": int(a) + int(b), "multiply": 0, "subtract": int(a) - int(b)}[kind]
    if request.body["model"] == "weak" and kind == "subtract":
        value = -1
    body = {
        "choices": [{"message": {"content": f"Answer: {value}"}}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 10},
    }
    handler.send(200, json.dumps(body).encode())


def pool_of(url: str) -> Pool:
    return Pool([LLM(name, 1.0, 2.0, endpoint=Endpoint(url)) for name in ("strong", "weak")])


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sums.jsonl"
    path.write_text("\n".join(map(json.dumps, questions(90))), encoding="utf-8")
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code or 0


def test_the_scores_of_an_exam_are_in_the_pool_file(file, tmp_path, capsys):
    with misbehaving(solver) as server:
        pool = tmp_path / "pool.toml"
        pool.write_text(pool_of(server.url).to_toml(), encoding="utf-8")
        assert run("pool", "exam", pool, "--data", file, "--questions", 60, "--dry-run") == 0
        assert server.requests == []
        assert "60 questions to 2 models, about US$" in capsys.readouterr().out
        assert run("pool", "exam", pool, "--data", file, "--questions", 60, "--max-cost", 1) == 0
        assert len(server.requests) == 120
    examined = Pool.load(pool)
    strong, weak = (dict(examined[name].scores) for name in ("strong", "weak"))
    assert min(strong["sums/add"], strong["sums/subtract"], weak["sums/add"]) > 0.8
    assert max(strong["sums/multiply"], weak["sums/subtract"]) < 0.2
    assert examined["strong"].scores_source == "exam of 60 questions"
    assert examined["strong"].mean_tokens == 10
    assert "sums/multiply" in capsys.readouterr().out


def test_an_exam_that_was_stopped_goes_on(file, tmp_path):
    """The endpoint dies half way: what was answered is not asked again, and too few answers give no
    scores."""

    def asked_of_weak() -> int:
        return sum(each.body["model"] == "weak" for each in list(server.requests))

    def dies(handler, request) -> None:
        if request.body["model"] == "weak" and asked_of_weak() > 15:
            handler.send(401, b'{"error": {"message": "gone"}}')
        else:
            solver(handler, request)

    tasks = read_questions(file)
    with misbehaving(dies) as server:
        pool = pool_of(server.url)
        plan = plan_exam(tasks, pool, 45)
        first = run_exam(plan, pool, tmp_path / "answers.jsonl")
        assert set(first.scores) == {"strong"}
        assert 0 < first.left_out["weak"] < 30
        assert first.pool["weak"].scores is None
        asked = len(server.requests)
        server_again = solver
    with misbehaving(server_again) as server:
        pool = pool_of(server.url)
        second = run_exam(plan, pool, tmp_path / "answers.jsonl")
        assert set(second.scores) == {"strong", "weak"}
        assert len(server.requests) == 45 - first.left_out["weak"]
        assert asked + len(server.requests) < 2 * 90


def test_an_endpoint_that_dies_late_leaves_a_fair_sample(file, tmp_path, capsys):
    """Every category is among what was answered, and the command says by how much a model was scored."""

    def dies(handler, request) -> None:
        asked = sum(each.body["model"] == "weak" for each in list(server.requests))
        if request.body["model"] == "weak" and asked > 42:
            handler.send(401, b'{"error": {"message": "gone"}}')
        else:
            solver(handler, request)

    with misbehaving(dies) as server:
        pool = tmp_path / "pool.toml"
        pool.write_text(pool_of(server.url).to_toml(), encoding="utf-8")
        assert run("pool", "exam", pool, "--data", file, "--questions", 60) == 1
    weak = Pool.load(pool)["weak"]
    assert {f"sums/{kind}" for kind in KINDS} <= set(weak.scores)
    assert weak.scores["sums/add"] > 0.7
    assert weak.scores["sums/subtract"] < 0.3
    told = re.search(r"weak: scored by the (\d+) of 60 questions", capsys.readouterr().err)
    assert 30 <= int(told[1]) < 60


def test_a_longer_exam_asks_the_questions_of_a_shorter_one_and_more(file):
    tasks, pool = read_questions(file), pool_of("http://localhost:1/v1")
    short, long = (plan_exam(tasks, pool, n) for n in (30, 60))
    assert set(short.tasks) < set(long.tasks)
    assert {task.dataset for task in short.tasks} == {f"sums/{kind}" for kind in KINDS}


def test_money_sets_how_many_are_asked(file):
    tasks, pool = read_questions(file), pool_of("http://localhost:1/v1")
    whole = plan_exam(tasks, pool, 90)
    assert whole.total == pytest.approx(sum(whole.cost.values()))
    half = plan_exam(tasks, pool, 90, max_cost=whole.total / 2)
    assert 40 <= len(half.tasks) <= 48
    with pytest.raises(InputError, match="must reach for 30 questions"):
        plan_exam(tasks, pool, 90, max_cost=whole.total / 10)
    with pytest.raises(InputError, match="at least 30, got 3"):
        plan_exam(tasks, pool, 3)


def test_questions_of_a_board_are_carried_to_the_whole_of_it(file, tmp_path, monkeypatch):
    """Known models found subtraction hard; the model examined is placed on all of the board."""
    import numpy as np

    rows = questions(300)
    keys = np.array([question_key(row["query"]) for row in rows], dtype=np.uint64)
    category = np.array([KINDS.index(row["query"].split()[0]) for row in rows], dtype=np.uint8)
    rng = np.random.default_rng(0)
    right = rng.random((300, 6)) < np.array([0.9, 0.3, 0.6])[category][:, None]
    board = Board("sums", keys, category, tuple(f"sums/{kind}" for kind in KINDS), right, ("a",) * 6)
    monkeypatch.setattr("eccos_rs.records.exam.boards", lambda: {"sums": board})
    with misbehaving(solver) as server:
        pool = pool_of(server.url)
        plan = plan_exam(read_questions(file), pool, 60)
        assert plan.recognised == 60
        result = run_exam(plan, pool, tmp_path / "answers.jsonl")
    assert result.scores["strong"].scores["sums"] == pytest.approx(2 / 3, abs=0.08)
    assert shipped.boards().keys() == {"mmlu_pro", "gsm8k", "math_l5"}


def test_published_files_are_read_as_they_are(tmp_path):
    mmlu = {"question": "Which?", "options": ["x", "y"], "answer": "B", "category": "computer science"}
    gsm = {"question": "How many?", "answer": "First 2.\n#### 1,204"}
    (tmp_path / "a.jsonl").write_text(json.dumps(mmlu), encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(json.dumps(gsm), encoding="utf-8")
    (one,), (two,) = (read_questions(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    assert (one.kind, one.answers, one.dataset) == ("multiple_choice", ("B",), "mmlu_pro/computer_science")
    assert (two.kind, two.answers, two.dataset) == ("numeric", ("1204",), "gsm8k")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no"),
        ('{"question": "How?", "answer": "well"}', "wanted a number behind ####"),
        ('{"text": "How?"}', "wanted question and answer"),
        ('{"query": "How?", "kind": "free"}', "graded by rule"),
    ],
)
def test_questions_that_no_rule_grades_are_refused(text, sentence, tmp_path):
    (tmp_path / "q.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=sentence):
        read_questions(tmp_path / "q.jsonl")
