"""Prices as they were on a day, from the `genai-prices` package (MIT), where it is installed."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from eccos_rs.catalogue.models import ModelPrices
from eccos_rs.domain.validation import shown
from eccos_rs.errors import MissingExtraError, PoolError

if TYPE_CHECKING:
    from eccos_rs.catalogue.models import CatalogueModel

__all__ = ["dated_prices"]

_PROVIDERS = {
    "gemini": "google", "vertex_ai": "google", "xai": "x-ai", "together_ai": "together",
    "fireworks_ai": "fireworks", "bedrock": "aws", "bedrock_converse": "aws",
}  # fmt: skip
"""Its names of providers, where they differ from the catalogue's."""
_TOKENS = 1000
"""Few enough to stay below every step with the length of the prompt."""


def dated_prices(model: CatalogueModel, day: str) -> tuple[ModelPrices, str]:
    """Return what a model cost on a day, and where that is from.

    Parameters
    ----------
    model : CatalogueModel
    day : str
        ``"2025-05-01"``.

    Returns
    -------
    ModelPrices, str
        Without steps and lanes, which that source does not tell by day.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    PoolError
        The day is none, or the package knows no price of the model on it.
    """
    try:
        import genai_prices
    except ImportError as error:
        raise MissingExtraError(
            "prices of another day need genai-prices: pip install 'eccos-rs[prices]'", name="genai_prices"
        ) from error
    try:
        moment = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC)
    except (TypeError, ValueError):
        raise PoolError(f"price_date must be a day such as '2025-05-01', got {shown(day)}") from None
    provider = model.provider.partition("-")[0]

    def price(**usage: int) -> Any:
        return genai_prices.calc_price(
            genai_prices.Usage(**usage),
            model.upstream,
            provider_id=_PROVIDERS.get(provider, provider),
            genai_request_timestamp=moment,
        )

    try:
        plain = price(input_tokens=_TOKENS, output_tokens=_TOKENS)
        cached = price(input_tokens=_TOKENS, cache_read_tokens=_TOKENS, output_tokens=0)
    except LookupError as error:
        raise PoolError(f"genai-prices knows no price of {model.key!r} of {provider}: {error}") from error
    scale = 1_000_000 / _TOKENS
    told = ModelPrices(
        float(plain.input_price) * scale, float(plain.output_price) * scale, float(cached.input_price) * scale
    )
    if told.input == 0 or told.output == 0:
        raise PoolError(f"genai-prices has no price of {model.key!r} of {provider} on {day}")
    return told, f"genai-prices {genai_prices.__version__}, {plain.model.id}"
