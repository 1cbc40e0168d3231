"""The decisions of a store as traffic, with texts of a log."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs.errors import InputError
from eccos_rs.session.store import Served
from eccos_rs.whatif.served import served_traffic
from tests.whatif.given import POOL, given_traffic


def decisions(*models: str, apart: float = 864.0) -> list[Served]:
    return [Served(model, 1e9 + apart * at, 0.8, 0.001, None, None) for at, model in enumerate(models)]


def test_times_models_and_volume_are_the_store_s_and_texts_the_log_s() -> None:
    log = given_traffic(answered_by=np.arange(100) % 2)
    found = served_traffic(log, decisions(*["large", "small", "small"] * 100), POOL, sample=1000)
    assert found.per_day == pytest.approx(100)
    assert found.answered_by is not None
    assert np.bincount(found.answered_by).tolist() == [200, 100]
    assert found.arrival is not None
    assert np.diff(found.arrival) == pytest.approx(864.0)
    # A request that the large model answered has the text of one that it answered in the log.
    number = [int(query.prompt.split()[1]) for query in found.queries]
    assert np.array_equal(np.array(number) % 2, found.answered_by)
    forecast = log.prediction.quality[number]
    np.testing.assert_array_equal(found.prediction.quality, forecast)


def test_a_sample_stands_for_all_and_models_that_are_gone_for_nobody() -> None:
    found = served_traffic(given_traffic(), decisions(*["gone", "small"] * 500), POOL, sample=100)
    assert len(found.queries) == 100
    assert found.scale == 10
    assert found.per_day == pytest.approx(100)
    assert found.answered_by is not None
    assert set(found.answered_by.tolist()) == {-1, 0}
    assert "not in the pool any more: gone" in found.remarks


def test_a_store_without_any_span_says_so() -> None:
    with pytest.raises(InputError, match="at one moment"):
        served_traffic(given_traffic(), decisions("small", "small", apart=0.0), POOL, sample=10)
