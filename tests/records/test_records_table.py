"""The columnar table, and splits that never part a question from its twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eccos_rs.errors import InputError, RecordError
from eccos_rs.records import (
    Output,
    Record,
    RecordTable,
    normalise,
    require_disjoint,
    split_by_text,
    text_groups,
)
from tests.helpers.paths import DATA

FORMATS = DATA / "formats"
STORY = "A train leaves the old station at noon and travels to the coast with {} stops on its long way east"


def table_of(texts: list[str], datasets: list[str] | None = None) -> RecordTable:
    sets = datasets or ["d"] * len(texts)
    answer = (Output("m", 1.0, 5, 0.1),)
    return RecordTable.from_records(
        Record(text, name, 3, answer) for text, name in zip(texts, sets, strict=True)
    )


def test_columns_and_gaps():
    table = RecordTable.read(FORMATS / "records.jsonl")
    assert table.models == ("ant-small", "ant-large")
    assert table.quality.shape == (3, 2)
    assert table.quality.dtype == np.float32
    assert table.cost.dtype == np.float64
    assert table.input_tokens.tolist() == [8, 10, 14]
    np.testing.assert_array_equal(table.quality, np.array([[1, 1], [0, 1], [0.5, np.nan]], np.float32))
    for matrix in (table.output_tokens, table.cost):
        np.testing.assert_array_equal(np.isnan(matrix), np.isnan(table.quality))
    assert repr(table) == "RecordTable(3 queries, 2 models, 83.3% observed)"


def test_columns_can_be_chosen():
    table = RecordTable.read(FORMATS / "records.jsonl", models=["ant-large"])
    assert table.models == ("ant-large",)
    with pytest.raises(RecordError, match="no model 'ant-larg'; did you mean 'ant-large'"):
        RecordTable.read(FORMATS / "records.jsonl", models=["ant-larg"])
    with pytest.raises(RecordError, match="each name once"):
        table.select_models(["ant-large", "ant-large"])


def test_rows_can_be_chosen():
    table = RecordTable.read(FORMATS / "records.jsonl")
    assert table.select([2, 0]).id == ["g3", "g1"]
    assert table.select(np.array([False, True, False])).id == ["g2"]
    assert len(table.select([])) == 0
    with pytest.raises(InputError, match=r"rows: got 0 to 3, wanted 0 to 2"):
        table.select([0, 3])
    with pytest.raises(InputError, match="mask of shape"):
        table.select(np.array([True]))


def test_a_table_gives_its_records_back():
    table = RecordTable.read(FORMATS / "records.jsonl")
    again = RecordTable.from_records(table.records())
    np.testing.assert_array_equal(again.cost, table.cost)
    assert again.query == table.query


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(RecordError, match="holds no record"):
        RecordTable.read(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("What is 2+2?", "what is   2 + 2", True),
        ("Café \N{LATIN SMALL LIGATURE FI}ne?", "CAFÉ fine", True),
        ("What is 3 + 4?", "What is 3 - 4?", False),
        ("What is 12 * 4?", "What is 12 * 5?", False),
        (STORY.format("seven"), STORY.format("seven") + " today", True),
        (
            STORY.format("seven"),
            "A different question altogether about the sea, its tides and its fish",
            False,
        ),
    ],
)
def test_what_counts_as_the_same_question(one, two, same):
    groups = text_groups([one, two])
    assert (groups[0] == groups[1]) == same


def test_groups_reach_through_chains_and_keep_order():
    words = [f"w{number}" for number in range(60)]
    chain = [" ".join(words[step : step + 40]) for step in range(0, 20, 2)]
    groups = text_groups(["first", *chain, "last", "FIRST!"])
    assert groups[0] == groups[-1] == 0
    assert set(groups[1:-2].tolist()) == {1}
    assert groups[-2] == 2


def test_close_pairs_are_found():
    """At a Jaccard similarity of 0.9 the bands miss one pair in thousands; here all 200 must be found."""
    rng = np.random.default_rng(5)
    texts = []
    for number in range(200):
        words = [f"{number}x{word}" for word in rng.integers(0, 10**6, 60)]
        texts += [" ".join(words), " ".join([*words, "indeed"])]
    groups = text_groups(texts)
    np.testing.assert_array_equal(groups[0::2], groups[1::2])
    assert len(set(groups.tolist())) == 200


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.sampled_from(["alpha?", "Alpha", "beta", "beta!", "gamma", "delta", "epsilon"]),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 2**32 - 1),
)
def test_no_split_parts_a_text(texts, seed):
    table = table_of(texts)
    parts = split_by_text(table, [0.6, 0.2, 0.2], seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(texts)))
    sides = [{normalise(texts[row]) for row in part.tolist()} for part in parts]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


def test_fractions_hold_in_every_dataset():
    texts = [f"question {name} number {number} {number * 7919}" for name in "abc" for number in range(100)]
    table = table_of(texts, [name for name in "abc" for _ in range(100)])
    parts = split_by_text(table, [0.7, 0.2, 0.1], seed=3)
    for part, wanted in zip(parts, (70, 20, 10), strict=True):
        for name in "abc":
            assert sum(table.dataset[row] == name for row in part.tolist()) == pytest.approx(wanted, abs=1)


def test_a_seed_fixes_the_split():
    table = table_of([f"question {number}" for number in range(50)])
    one, two, other = (split_by_text(table, [0.5, 0.5], seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("fractions", [[], [0.5, 0.6], [1.2, -0.2], [0.5]])
def test_fractions_must_add_up(fractions):
    with pytest.raises(InputError, match="add up to 1"):
        split_by_text(table_of(["a", "b"]), fractions, 0)


def test_one_query_goes_somewhere():
    parts = split_by_text(table_of(["alone"]), [0.8, 0.2], 0)
    assert [len(part) for part in parts] == [1, 0]


def test_shared_questions_are_refused_across_files():
    train = table_of([STORY.format("seven"), "something else"])
    require_disjoint(train, table_of(["new question"]))
    with pytest.raises(RecordError, match=r"1 of 2 rows .* row 2, the same as row 1 of train"):
        require_disjoint(train, table_of(["new question", STORY.format("seven").upper()]))
    with pytest.raises(RecordError, match="nearly the same"):
        require_disjoint(train, table_of([STORY.format("seven") + " today"]))


def test_real_data_has_twins_and_no_split_parts_them(data_dir):
    table = RecordTable.read(data_dir / "qaserve_public.parquet", models=["gpt-4o"])
    groups = text_groups(table.query)
    assert len(table) > len(set(groups.tolist())) > 0.98 * len(table)
    parts = split_by_text(table, [0.8, 0.2], seed=0)
    assert not set(groups[parts[0]].tolist()) & set(groups[parts[1]].tolist())
