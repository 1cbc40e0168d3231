"""The cost of a call: the one formula of the package.

Prices are US dollars per million tokens, as providers list them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from eccos_rs.domain.llm import LLM, PriceStep

__all__ = ["TOKENS_PER_PRICE_UNIT", "Prices", "call_cost", "cost_matrix", "model_cost", "prices_at"]

TOKENS_PER_PRICE_UNIT = 1e6
"""Tokens that a listed price is for."""


class Prices(Protocol):
    """What a model charges; `LLM` is one."""

    @property
    def input_price(self) -> float:
        """US dollars per million input tokens."""

    @property
    def output_price(self) -> float:
        """US dollars per million output tokens, hidden reasoning included."""

    @property
    def cached_input_price(self) -> float | None:
        """US dollars per million input tokens read from the provider's cache; None: as other input."""


def call_cost(
    input_tokens: float,
    output_tokens: float,
    input_price: float,
    output_price: float,
    *,
    cached_tokens: float = 0,
    cached_input_price: float | None = None,
) -> float:
    """Return the cost of a call in US dollars.

    Parameters
    ----------
    input_tokens, output_tokens : float
        Tokens of the whole prompt, those read from a cache among them, and of the answer with its hidden
        reasoning.
    input_price, output_price : float
        US dollars per million tokens.
    cached_tokens : float
        Tokens of the prompt that the provider read from its cache.
    cached_input_price : float, optional
        US dollars per million of those; by default `input_price`.

    Returns
    -------
    float
        US dollars.

    Examples
    --------
    >>> call_cost(1_000, 500, 2.5, 10.0)
    0.0075
    >>> call_cost(1_000, 500, 2.5, 10.0, cached_tokens=800, cached_input_price=0.25)
    0.0057
    """
    dollars = input_tokens * input_price + output_tokens * output_price
    if cached_input_price is not None:
        dollars = dollars + cached_tokens * (cached_input_price - input_price)
    return dollars / TOKENS_PER_PRICE_UNIT


def model_cost(
    model: Prices, input_tokens: float, output_tokens: float, *, cached_tokens: float = 0
) -> float:
    """Return what a call to a model costs in US dollars; see `call_cost`.

    `cached_tokens` above `input_tokens` count as `input_tokens`: nothing else can have been read.
    """
    return call_cost(
        input_tokens,
        output_tokens,
        model.input_price,
        model.output_price,
        cached_tokens=min(cached_tokens, input_tokens),
        cached_input_price=model.cached_input_price,
    )


def prices_at(model: LLM, prompt: float) -> LLM | PriceStep:
    """Return the prices of a request with a prompt of so many tokens: of the last step that it is beyond.

    Examples
    --------
    >>> from eccos_rs.domain.llm import LLM, PriceStep
    >>> dear = PriceStep(above=272_000, input_price=2.0, output_price=6.0)
    >>> model = LLM("m", 1.0, 4.0, price_steps=[dear])
    >>> prices_at(model, 272_000).input_price, prices_at(model, 272_001).input_price
    (1.0, 2.0)
    """
    beyond = [step for step in model.price_steps if prompt > step.above]
    return beyond[-1] if beyond else model


def cost_matrix(
    input_tokens: NDArray[Any], output_tokens: NDArray[Any], prices: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what every query costs at every model.

    Parameters
    ----------
    input_tokens : ndarray, shape (N,) or (N, M)
        Tokens of each prompt.
    output_tokens : ndarray, shape (N, M)
        Expected tokens of each answer.
    prices : ndarray, shape (M, 2)
        Input and output price of each model, US dollars per million tokens.

    Returns
    -------
    ndarray, shape (N, M), float64
        US dollars.
    """
    # One array is made and filled in place: this is on the way of every batch.
    cost: NDArray[np.float64] = output_tokens * prices[:, 1]
    cost += (input_tokens[:, None] if input_tokens.ndim == 1 else input_tokens) * prices[:, 0]
    cost /= TOKENS_PER_PRICE_UNIT
    return cost
