"""`eccos distil`: a shorter encoder for queries like yours, from their texts alone."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

from eccos_rs.cli.common import console, needing_extra, progress_bar

__all__ = ["distil"]


def distil(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA...",
            help="Files with a column or field `query` (.jsonl, .json, .csv, .parquet); labels are not read.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The encoder's file, .safetensors.")],
    layers: Annotated[int, typer.Option(help="Layers of the encoder that is made, 2 to 5.")] = 4,
    epochs: Annotated[int, typer.Option(help="Passes over the texts.")] = 8,
    holdout: Annotated[float, typer.Option(help="Share of the texts that the agreement is told on.")] = 0.1,
    max_tokens: Annotated[int, typer.Option(help="What is read of a text, word pieces.")] = 256,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    device: Annotated[str, typer.Option(help="Where torch computes: cpu or cuda.")] = "cpu",
) -> None:
    """Distil the published encoder of six layers into a shorter one.

    Labels take no part, so any queries will do; what a router makes of labels later is as honest as before.
    The shipped minilm-4 was made like this and is what eccos train takes. Make one of your own where your
    queries are unlike exam questions and there are thousands of them. On two cores a pass over 8,000 queries
    takes two to four minutes.

    \b
    eccos distil queries.jsonl --out mine.safetensors
    eccos train answers.parquet --encoder mine.safetensors --out models/mine
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.errors import RecordError
    from eccos_rs.records.files import iter_rows

    with needing_extra("train", "training"):
        from eccos_rs.train.distil import DistilOptions
        from eccos_rs.train.distil import distil as make
        from eccos_rs.train.encoder import check_device, save_encoder
    options = DistilOptions(
        layers=layers, epochs=epochs, holdout=holdout, max_tokens=max_tokens, seed=seed, device=device
    )
    check_device(device)
    texts: list[str] = []
    for path in data:
        for row, fields in iter_rows(path):
            text = fields.get("query")
            if not isinstance(text, str) or not text.strip():
                raise RecordError(f"{path.name}, row {row}: query: got {text!r}, wanted a text")
            texts.append(text)
    encoder, unread, read = make(texts, options, progress_bar)
    about = {
        "texts": str(len(set(texts))),
        "epochs": str(epochs),
        "seed": str(seed),
        "variance_low": f"{unread.low:.4f}",
        "variance_last": f"{unread.last:.4f}",
        "cosine": f"{unread.cosine:.4f}",
    }
    save_encoder(encoder, out, options.frozen_layers, about)
    shown = console()
    for each, which in ((unread, "it has not read"), (read, "it has learned from")):
        shown.print(
            f"On {each.texts:,} texts that {which}: {each.low:.1%} of the variance of the low layer's mean, "
            f"{each.last:.1%} of the last layer's, similarity {each.cosine:.3f}"
        )
    shown.print(f"Wrote {out} ({out.stat().st_size / 1e6:.1f} MB), {layers} layers of 6.")
