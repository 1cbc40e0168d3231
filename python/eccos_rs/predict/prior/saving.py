"""A router that has learned, as a bundle: the files of the one it was made of, and what was learned since."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from eccos_rs.errors import BundleError, InputError
from eccos_rs.predict.bundle import Bundle, write_bundle
from eccos_rs.predict.prior.learned import LearnedPredictor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from eccos_rs.domain.query import Query
    from eccos_rs.pools.pool import Pool
    from eccos_rs.predict.prior.known import ModelPrior
    from eccos_rs.predict.protocol import Prediction, Predictor
    from eccos_rs.predict.trained import BundlePredictor

__all__ = ["LEARNED", "load_learned", "restore_learned", "save_learned"]

LEARNED = "learned.npz"


def save_learned(path: str | PathLike[str], predictor: Predictor, pool: Pool) -> Bundle:
    """Write a predictor made of a bundle, with its pool and what it has learned; see `Router.save`."""
    base = predictor.base if isinstance(predictor, LearnedPredictor) else predictor
    bundle = getattr(base, "bundle", None)
    if not isinstance(bundle, Bundle):
        raise InputError(
            f"save: got a router of {type(base).__name__}, wanted one whose predictor was made of a bundle"
        )
    names = [*bundle.manifest["files"], *bundle.shared]
    files: dict[str, Any] = {name: bundle.file(name) for name in names if name not in ("pool.toml", LEARNED)}
    files["pool.toml"] = pool.to_toml().encode()
    if isinstance(predictor, LearnedPredictor):
        files[LEARNED] = _packed(predictor)
    # It stands alone: what another bundle lent is copied.
    manifest = {
        key: value
        for key, value in bundle.manifest.items()
        if key not in ("files", "shared", "schema_version")
    }
    return write_bundle(path, manifest, files)


@dataclass(frozen=True)
class _Names:
    """As much of a predictor as what was learned is laid over: enough to say what is known."""

    models: tuple[str, ...]
    priors: Sequence[ModelPrior]

    @property
    def level_std(self) -> NDArray[np.float64]:
        return np.array([each.level_std for each in self.priors])

    def predict(self, queries: Sequence[Query]) -> Prediction:
        raise NotImplementedError("only names are known here")


def load_learned(bundle: Bundle, priors: Sequence[ModelPrior]) -> LearnedPredictor | None:
    """Return what a saved bundle has learned of models, without its encoder; None if nothing."""
    names = _Names(tuple(each.name for each in priors), priors)
    made: Any = restore_learned(bundle, cast("BundlePredictor", names))
    return made if isinstance(made, LearnedPredictor) else None


def restore_learned(bundle: Bundle, predictor: BundlePredictor) -> BundlePredictor:
    """Lay what a saved bundle has learned over its predictor.

    Raises
    ------
    BundleError
        If it cannot be read.
    """
    if LEARNED not in bundle.manifest["files"]:
        return predictor
    try:
        with np.load(bundle.file(LEARNED), allow_pickle=False) as kept:
            made = LearnedPredictor.restored(predictor, {name: kept[name] for name in kept.files})
    except (KeyError, OSError, ValueError, IndexError) as error:
        raise BundleError(f"{bundle.file(LEARNED)}: what was learned cannot be read: {error}") from None
    # It passes on whatever else its base has.
    return cast("BundlePredictor", made)


def _packed(predictor: LearnedPredictor) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **predictor.state())  # type: ignore[arg-type]  # arrays by name
    return stream.getvalue()
