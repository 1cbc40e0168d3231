"""A new model from a few dozen labels."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs import LLM, InputError, PoolError, Query, Record, RecordTable, Router
from eccos_rs.records import Output
from tests.helpers.given import TRIO, DrawnPredictor, texts

FOUR = DrawnPredictor(("small", "middle", "large", "new"), [-0.2, 0.6, 1.5, 0.9])
NEW = LLM("new", 0.2, 0.8)


class Trio(DrawnPredictor):
    """Knows three of the four models, with the very rows that the four have."""

    def predict(self, queries):
        return FOUR.predict(queries).select(self.models)


def router() -> Router:
    return Router(TRIO, Trio(TRIO.names, [0, 0, 0]))


def labels(count: int, seed: int = 0) -> list[Record]:
    """What the fourth model would answer: coin flips with its true probabilities, its true lengths."""
    batch = [f"labelled {seed} {text}" for text in texts(count)]
    truth = FOUR.predict([Query(text) for text in batch])
    flips = np.random.default_rng(seed).random(count) < truth.quality[:, 3]
    return [
        Record(text, "test", 10, (Output("new", float(good), int(tokens), 0.001),))
        for text, good, tokens in zip(batch, flips, truth.output_tokens[:, 3], strict=True)
    ]


def auc(score, outcome):
    order = score.argsort().argsort() + 1
    good = outcome > 0.5
    return (order[good].sum() - good.sum() * (good.sum() + 1) / 2) / (good.sum() * (~good).sum())


def test_a_new_model_joins_the_pool_and_is_routed_to():
    wider = router()
    assert wider.add_model(NEW, labels(200)) is wider
    assert wider.pool.names == ("small", "middle", "large", "new")
    plan = wider.route(texts(300), min_quality=0.72)
    without = router().route(texts(300), min_quality=0.72)
    assert plan.models.count("new") > 30
    # It is nearly as good as the large one at a twelfth of its price.
    assert plan.total_cost < 0.8 * without.total_cost
    assert without.models.count("new") == 0


@pytest.mark.parametrize(("count", "level"), [(50, 0.1), (500, 0.04)])
def test_few_labels_give_its_level_order_and_length(count, level):
    wider = router().add_model(NEW, labels(count))
    batch = [f"unseen {text}" for text in texts(2000)]
    truth = FOUR.predict([Query(text) for text in batch])
    got = wider.predict(batch)
    assert abs(got.quality[:, 3].mean() - truth.quality[:, 3].mean()) < level
    flips = np.random.default_rng(1).random(2000) < truth.quality[:, 3]
    # What is the new model's own is not to be seen in the others; what all share is.
    assert auc(got.quality[:, 3], flips) > auc(truth.quality[:, :3].mean(axis=1), flips) - 0.01
    assert got.output_tokens[:, 3].mean() == pytest.approx(truth.output_tokens[:, 3].mean(), rel=0.1)
    # The known ones stay as they were.
    assert np.array_equal(got.quality[:, :3], truth.quality[:, :3])


def test_more_labels_leave_less_doubt():
    few, many = router().add_model(NEW, labels(30)), router().add_model(NEW, labels(1000))
    batch = texts(50)
    assert (few.predict(batch).quality_std[:, 3] > many.predict(batch).quality_std[:, 3]).all()


def test_a_table_is_taken_and_other_models_in_it_are_left_out():
    records = [
        Record(record.query, "test", 10, (*record.outputs, Output("large", 1.0, 5, 0.1)))
        for record in labels(60)
    ]
    listed = router().add_model(NEW, records)
    table = router().add_model(NEW, RecordTable.from_records(records))
    batch = texts(20)
    assert np.allclose(listed.predict(batch).quality, table.predict(batch).quality)


@pytest.mark.parametrize("good", [0.0, 1.0])
def test_a_model_that_is_always_right_or_wrong_stays_within_reason(good):
    records = [Record(record.query, "test", 10, (Output("new", good, 0, 0.0),)) for record in labels(40)]
    got = router().add_model(NEW, records).predict(texts(100))
    assert ((got.quality[:, 3] > 0) & (got.quality[:, 3] < 1)).all()
    assert abs(got.quality[:, 3].mean() - good) < 0.1
    assert np.isfinite(got.output_tokens).all()


def test_what_cannot_be_learned_from_is_refused():
    with pytest.raises(InputError, match="got 5 labelled queries for model 'new', wanted at least"):
        router().add_model(NEW, labels(5))
    with pytest.raises(InputError, match="got 0 labelled queries for model 'other'"):
        router().add_model(LLM("other", 1, 1), labels(50))
    with pytest.raises(PoolError, match="'large' is in the pool twice"):
        router().add_model(LLM("large", 1, 1), labels(50))
    with pytest.raises(PoolError, match="model must be an LLM, got str"):
        router().add_model("new", labels(50))
    narrow = Router(TRIO.select(["small"]), Trio(TRIO.names, [0, 0, 0]))
    with pytest.raises(InputError, match="'large' is known to the predictor already"):
        narrow.add_model(LLM("large", 1, 1), labels(50))


def test_two_new_models_stand_on_each_other():
    wider = router().add_model(NEW, labels(100))
    again = [
        Record(record.query, "test", 10, (Output("newer", record.outputs[0].quality, 20, 0.0),))
        for record in labels(100, seed=1)
    ]
    wider.add_model(LLM("newer", 0.1, 0.1), again)
    assert wider.predict(["Hi"]).models == ("small", "middle", "large", "new", "newer")
