"""The model card of a bundle that names no model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eccos_rs.predict.prior.curves import Curves
    from eccos_rs.train.prior.answers import Answers

__all__ = ["prior_card"]


def prior_card(
    name: str, answers: Sequence[Answers], curves: Curves, base: str, sources: Sequence[str]
) -> str:
    """Return the card, Markdown."""
    rows = "\n".join(f"| {part.benchmark} | {len(part):,} | {len(part.models)} |" for part in answers)
    origin = "\n".join(f"- {source}" for source in sources) or "- not stated"
    return f"""# {name}

Forecasts how well any language model answers a query, and how long the answer is, from the query's text and
from what is published of the model. It names no model and holds no answer of one: per text it says how hard
the query is for models of three strengths, which of {len(curves.categories)} categories it is of, and how
long answers usually are. A model is laid over that by its published scores.

## Learned from

| benchmark | queries | models that answered |
|---|---|---|
{rows}

{origin}

The texts are not in the bundle: it holds vectors of them that cannot be read, weights, and fingerprints
(SHA-256) so that an evaluation can leave known queries out. The encoder is that of `{base}`, whose files are
shared.

## Good for

Exam questions, mathematics, reading code, everyday knowledge, in English. `Plan` says how like these a batch
is; of queries that are unlike them, forecasts fall back to each model's mean, and a promise is not validated
before some labels of one's own (`router.learn`).

## Not good for

The level of a model on traffic unlike any of this is not forecast: about one log odds (15 to 20 points) may
be off for all models together. Agents over many turns, and images, were not seen. A model known by one
overall score is ordered among the others, hardly told apart from them query by query. Figures and how they
were measured: `benches/day_one.py`.
"""
