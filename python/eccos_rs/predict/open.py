"""Opens the predictor that a bundle describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from eccos_rs.errors import InputError
from eccos_rs.pools.pool import Pool
from eccos_rs.predict.hybrid import HybridPredictor
from eccos_rs.predict.prior.known import model_prior
from eccos_rs.predict.prior.predictor import PriorPredictor
from eccos_rs.predict.prior.saving import restore_learned
from eccos_rs.predict.trained import RetrievalPredictor, TrainedPredictor

if TYPE_CHECKING:
    from eccos_rs.predict.bundle import Bundle
    from eccos_rs.predict.prior.known import ModelPrior
    from eccos_rs.predict.trained import BundlePredictor

__all__ = ["KINDS", "model_priors", "open_predictor"]

KINDS: dict[str, type[BundlePredictor]] = {
    each.kind: each for each in (TrainedPredictor, RetrievalPredictor, HybridPredictor)
}


class _Options(TypedDict):
    device: str
    threads: int | None
    variant: str | None
    cache_size: int | None


def open_predictor(
    bundle: Bundle,
    kind: str = "hybrid",
    *,
    device: str = "auto",
    threads: int | None = None,
    variant: str | None = None,
    cache_size: int | None = None,
    pool: Pool | None = None,
) -> BundlePredictor:
    """Open the predictor of a bundle.

    Parameters
    ----------
    bundle : Bundle
        A checked bundle.
    kind : {"hybrid", "trained", "retrieval"}
        Heads and neighbours blended, the heads alone, or the neighbours alone.
    device : {"auto", "cpu", "cuda", "tensorrt"}
        ``auto`` takes CUDA when it can really be started, else the CPU; `predictor.device` says which.
    threads : int, optional
        CPU threads for the encoder; never more than the process may run on. The default is all of those.
    variant : {"float32", "int8", "float16"}, optional
        The encoder's precision, of those that passed their accuracy check. The default is the fastest
        one that the device computes without loss.
    cache_size : int, optional
        Number of texts whose encodings are remembered; 0 for none. The default is 8192 on a CPU, and none
        on a GPU, where encoding again is as fast.
    pool : Pool, optional
        The models to forecast, for a bundle that names none; one that was saved has a pool of its own.

    Returns
    -------
    TrainedPredictor, RetrievalPredictor, HybridPredictor or PriorPredictor
        A `LearnedPredictor` of one of these, where the bundle was saved by a router that has learned.

    Raises
    ------
    InputError
        If `kind`, `device` or `variant` is not one of these.
    DeviceError
        If the device that was asked for cannot be had.
    """
    if kind not in KINDS:
        raise InputError(f"kind: got {kind!r}, wanted one of {', '.join(KINDS)}")
    options: _Options = {"device": device, "threads": threads, "variant": variant, "cache_size": cache_size}
    if bundle.is_prior:
        return restore_learned(bundle, PriorPredictor(bundle, model_priors(bundle, pool), **options))
    return restore_learned(bundle, KINDS[kind](bundle, **options))


def model_priors(bundle: Bundle, pool: Pool | None = None) -> list[ModelPrior]:
    """Return what a bundle that names no model knows of each model of a pool; None takes its own."""
    if pool is None and not bundle.has_pool:
        raise InputError(f"pool: the bundle {bundle.name!r} names no model; give the models to forecast")
    own = Pool.load(bundle.pool_path) if pool is None else pool
    categories = [str(name) for name in bundle.table("prior")["categories"]]
    return [model_prior(model, categories) for model in own]
