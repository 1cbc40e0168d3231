"""Write the bundle that names no model: curves from public answers on the encoder of a trained bundle."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.predict.bundle import Bundle, write_bundle
from eccos_rs.records.fingerprint import encode_fingerprints
from eccos_rs.train.metric import Metric
from eccos_rs.train.prior.answers import join_answers, read_answers
from eccos_rs.train.prior.card import prior_card
from eccos_rs.train.prior.fit import Smoother, fit_curves, make_training_set
from eccos_rs.train.prior.graph import states_graph, states_width
from eccos_rs.train.prior.states import cached_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from eccos_rs.predict.prior.curves import Curves

__all__ = ["PriorResult", "train_prior"]


@dataclass(frozen=True, eq=False)
class PriorResult:
    """What training made.

    Attributes
    ----------
    bundle : Bundle
        On disk, checked.
    queries, categories, models : int
        Texts that were learned from, their categories, and how many models' answers to them.
    """

    bundle: Bundle
    queries: int
    categories: int
    models: int


def train_prior(
    files: Sequence[Path],
    folder: Path,
    base: Bundle,
    states_file: Path,
    *,
    sources: Sequence[str] = (),
    on_rows: Callable[[int], object] | None = None,
) -> PriorResult:
    """Learn curves from files of public answers and write them as a bundle.

    Parameters
    ----------
    files : sequence of Path
        See `read_answers`.
    folder : Path
        Where the bundle shall lie; its last part is the bundle's name.
    base : Bundle
        A trained one beside `folder`: its encoder is used, and its weight file is lent, not copied.
    states_file : Path
        Where the encoder's outputs are kept between runs.
    sources : sequence of str
        Where the answers come from, for the model card.
    on_rows : callable, optional
        Called with the number of texts that were just encoded.
    """
    answers = join_answers([each for path in files for each in read_answers(path)])
    texts = list(dict.fromkeys(text for part in answers for text in part.query))
    row_of = {text: row for row, text in enumerate(texts)}
    raw = cached_states(states_file, texts, base, on_rows)
    # The base standardises by its own queries; the curves read what it gives as it is.
    metric = Metric.of(raw)
    data = make_training_set(answers, row_of)
    x = raw[data.row]
    curves = fit_curves(data, Smoother(x, metric), x)
    models = {name for part in answers for name in part.models}
    card = prior_card(folder.name, answers, curves, base.name, sources)
    bundle = write_bundle(
        folder,
        {
            "name": folder.name,
            "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "models": [],
            **_encoder_tables(base, curves, states_width(states_graph(base.file(_file(base, "float32"))))),
            "input_tokens": dict(base.manifest.get("input_tokens", {})),
            "provenance": {
                "queries_learned": len(texts),
                "answers_of": len(models),
                "sources": list(sources),
                "train_texts_sha256": "train_texts.sha256",
            },
        },
        {
            **_graphs(base),
            "curves.npz": _packed(curves),
            "README.md": card.encode(),
            "train_texts.sha256": encode_fingerprints(texts),
        },
    )
    return PriorResult(bundle, len(texts), len(curves.categories), len(models))


def _encoder_tables(base: Bundle, curves: Curves, width: int) -> dict[str, Any]:
    """Return what the manifest says of the encoder, of what is lent, and of the curves."""
    table = base.table("encoder")
    lent = {name: base.manifest["files"][name] for name in (table["weights"], table["tokenizer"])}
    return {
        "encoder": {
            "tokenizer": table["tokenizer"],
            "max_tokens": table["max_tokens"],
            "dimension": table["dimension"],
            "states": width,
            "file": _cut(table["file"]),
            "weights": table["weights"],
            "variants": {
                name: {key: _cut(each[key]) for key in ("file", "unsigned") if key in each}
                for name, each in table.get("variants", {}).items()
            },
        },
        "shared": {"bundle": base.name, "files": lent},
        "prior": {"curves": "curves.npz", "categories": list(curves.categories)},
    }


def _graphs(base: Bundle) -> dict[str, bytes]:
    """Cut the encoder out of every graph of the base."""
    table = base.table("encoder")
    variants = table.get("variants", {}).values()
    files = [table["file"], *(each[key] for each in variants for key in ("file", "unsigned") if key in each)]
    return {_cut(name): states_graph(base.file(name)) for name in files}


def _file(base: Bundle, variant: str) -> str:
    table = base.table("encoder")
    return str(table["file"] if variant == "float32" else table["variants"][variant]["file"])


def _cut(name: str) -> str:
    return name.replace("predictor", "encoder")


def _packed(curves: Curves) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **curves.arrays())  # type: ignore[arg-type]  # arrays by name
    return stream.getvalue()
