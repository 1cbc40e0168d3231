"""A question keeps its forecast under any system text and after any history; only its price changes."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs import Pool, Router
from eccos_rs.domain.query import Query
from eccos_rs.predict.bundle import DEFAULT_BUNDLE, SHIPPED, Bundle
from eccos_rs.predict.hybrid import HybridPredictor
from eccos_rs.predict.open import open_predictor

pytestmark = pytest.mark.skipif(
    not (SHIPPED / DEFAULT_BUNDLE / "bundle.toml").is_file(), reason="no bundle is shipped in this checkout"
)

QUESTIONS = [
    "What is the capital of France?",
    "2 + 2?",
    "Prove that the square root of 2 is irrational.",
    "A train leaves at 9:40 and arrives at 13:05. How long does the journey take?",
    "Which of the following is a noble gas? A) nitrogen B) argon C) chlorine",
    "Wie heißt die Hauptstadt von Österreich?",
    "法国的首都是哪里？",
    "Fix this:\n```python\nfor i in range(10)\n    print(i)\n```",
    "Explain the difference between a mutex and a semaphore, with examples in C.",
]
SYSTEMS = [
    "你是一个有用的助手。请用简体中文回答所有问题，并给出详细的解释。" * 30,
    "You are an engineer. The code:\n"
    + "\n".join(f"def f{at}(x):\n    return x * {at}" for at in range(150)),
    "Prove every step; let n be an integer with n^2 + 1 prime. " * 40,
    "   \n ",
]
SYSTEM = " ".join(
    f"Rule {number}: answer politely, quote section {number}.{number % 7} of the handbook and never guess."
    for number in range(1, 60)
)
HISTORY = [
    {"role": "user", "content": "My printer prints blank pages. What can I do?"},
    {"role": "assistant", "content": "Check the cartridge first, then run the cleaning programme twice."},
    {"role": "user", "content": "It works now. Another thing: which paper is best for photographs?"},
    {"role": "assistant", "content": "Glossy paper of 200 to 260 grams. " * 20},
    {
        "role": "user",
        "content": [{"type": "text", "text": "Write a poem about paper in the manner of Heine."}],
    },
    {"role": "assistant", "content": "O paper, white and thin and fair … " * 12},
]


@pytest.fixture(scope="module")
def hybrid() -> HybridPredictor:
    made = open_predictor(Bundle.load(), "hybrid", device="cpu", threads=1)
    assert isinstance(made, HybridPredictor)
    return made


def chat(question: str, *before: dict[str, object], system: str | None = None) -> Query:
    first = [] if system is None else [{"role": "system", "content": system}]
    return Query(messages=[*first, *before, {"role": "user", "content": question}])


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_keeps_its_forecast(hybrid: HybridPredictor, question: str) -> None:
    tool = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "search", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "Nothing was found. " * 30, "tool_call_id": "1"},
    ]
    forms = [
        Query(question),
        chat(question),
        chat(question, system="Be brief."),
        chat(question, system=SYSTEM),
        chat(question, *HISTORY),
        chat(question, *HISTORY, *HISTORY, system=SYSTEM),
        chat(f"  {question}\n", *HISTORY[:2]),
        Query(messages=[*chat(question, system=SYSTEM).messages, *tool]),
        Query(messages=[{"role": "developer", "content": SYSTEM}, *chat(question).messages]),
        *(chat(question, system=system) for system in SYSTEMS),
        *(chat(question, *HISTORY, system=system) for system in SYSTEMS),
    ]
    made = hybrid.predict(forms)
    assert np.abs(made.quality - made.quality[0]).max() < 0.03
    assert np.abs(np.log(made.output_tokens / made.output_tokens[0])).max() < 0.05
    # What precedes is paid for all the same.
    assert (made.input_tokens[3:6] > made.input_tokens[0] + 100).all()
    assert made.input_tokens[5] > made.input_tokens[4] > made.input_tokens[0]


def test_a_question_keeps_its_forecast_without_labels_too() -> None:
    predictor = Router.day_one(Pool.of("gpt-5-mini", "claude-sonnet-4.5")).predictor
    for question in QUESTIONS:
        forms = [Query(question), *(chat(question, *HISTORY, system=system) for system in [SYSTEM, *SYSTEMS])]
        made = predictor.predict(forms)
        assert np.abs(made.quality - made.quality[0]).max() < 0.03


def test_input_tokens_do_not_hang_on_what_was_seen_before(hybrid: HybridPredictor) -> None:
    forms = [chat(QUESTIONS[0], *HISTORY, system=SYSTEM), chat(QUESTIONS[0]), chat(QUESTIONS[2], *HISTORY)]
    hybrid.cache.clear()
    fresh = hybrid.predict(forms).input_tokens
    assert hybrid.predict(forms).input_tokens.tolist() == fresh.tolist()
    alone = [int(hybrid.predict([form]).input_tokens[0]) for form in forms]
    assert alone == fresh.tolist()


def test_a_turn_that_carries_on_is_read_behind_the_turn_before_it() -> None:
    proof = {"role": "user", "content": QUESTIONS[2]}
    answer = {"role": "assistant", "content": "Suppose it were p / q …"}
    going_on = Query(messages=[proof, answer, {"role": "user", "content": "Go on!"}])
    assert going_on.question == f"{QUESTIONS[2]}\n\nGo on!"
    assert Query(messages=[{"role": "user", "content": "yes"}]).question == "yes"
    assert chat("yes, but why is p even?", proof, answer).question == "yes, but why is p even?"


def test_a_chat_without_a_question_is_read_as_a_whole() -> None:
    said = [{"role": "system", "content": "Greet."}, {"role": "assistant", "content": "Hello!"}]
    query = Query(messages=said)
    assert query.question == query.prompt == "Hello!\n\nGreet."
    assert Query("plain").question == "plain"
    assert Query(messages=[{"role": "user", "content": "a \ud800"}]).question == "a \ufffd"


def test_a_question_behind_a_long_document_is_seen(hybrid: HybridPredictor) -> None:
    document = "The archive holds letters of the years 1820 to 1850, sorted by place and by hand. " * 60
    behind = [Query(f"{document}\n\n{question}") for question in QUESTIONS[:3]]
    made = hybrid.predict(behind)
    assert np.abs(made.embedding[0] - made.embedding[2]).max() > 0.02
