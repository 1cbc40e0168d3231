"""From records to a predictor that knows one model more; the fitting is `eccos_rs.predict.onboarding`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.domain.query import Query
from eccos_rs.errors import InputError
from eccos_rs.predict.onboarding import NewModelHead, PredictorWithNewModels, fit_new_model
from eccos_rs.records import RecordTable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eccos_rs.predict.protocol import Predictor
    from eccos_rs.records import Record

__all__ = ["with_new_model"]


def with_new_model(predictor: Predictor, name: str, records: Iterable[Record] | RecordTable) -> Predictor:
    """Return the predictor with a further column for a new model.

    Parameters
    ----------
    predictor : Predictor
        It may have added already; each is fitted against the models that were trained.
    name : str
        The new model's, as the records give it.
    records : iterable of Record, or RecordTable
        Those with an answer of this model are used.

    Raises
    ------
    InputError
        The predictor knows the model already, or there are too few labels.
    """
    if name in predictor.models:
        raise InputError(f"model {name!r} is known to the predictor already")
    listed = records.records() if isinstance(records, RecordTable) else records
    answers = [(record.query, each) for record in listed for each in record.outputs if each.model == name]
    base: Predictor = predictor
    earlier: tuple[NewModelHead, ...] = ()
    if isinstance(predictor, PredictorWithNewModels):
        base, earlier = predictor.base, predictor.added
    head = fit_new_model(
        name,
        base.predict([Query(text) for text, _ in answers]),
        np.array([answer.quality for _, answer in answers], dtype=np.float64),
        np.array([answer.output_tokens for _, answer in answers], dtype=np.float64),
    )
    return PredictorWithNewModels(base, (*earlier, head))
