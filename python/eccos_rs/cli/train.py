"""`eccos train`: labelled data to a bundle that routes."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from eccos_rs.cli.common import console, needing_extra, progress_bar

if TYPE_CHECKING:
    from eccos_rs.evaluate.verdict import Verdict
    from eccos_rs.train.pipeline import TrainResult

__all__ = ["train"]


def train(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Labelled queries: JSONL or Parquet, record or tidy form.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The bundle's folder; an older one is replaced as a whole.")
    ],
    pool: Annotated[
        Path | None,
        typer.Option(
            "--pool",
            "--prices",
            help="Pool file (.toml) or price table (.csv: model, input_price, output_price). Without it the "
            "prices are recovered from the costs in the data.",
        ),
    ] = None,
    aux: Annotated[
        list[Path] | None,
        typer.Option(help="Other models' answers to the same queries: better labels. May be repeated."),
    ] = None,
    head: Annotated[str, typer.Option(help="mlp or linear; see above.")] = "mlp",
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Train the upper layers of the encoder too; see above.")
    ] = False,
    holdout: Annotated[
        float, typer.Option(help="Share of the queries behind the figures; 0 for none.")
    ] = 0.15,
    refit: Annotated[
        bool, typer.Option(help="After the figures, train again on everything; that is what is written.")
    ] = True,
    teacher_share: Annotated[
        str,
        typer.Option(
            help="How far labels move towards what other models' answers say: 0 (as observed) to 1, or auto: "
            "0, 0.4 or 0.8 for each dataset, whichever forecasts the observed labels best."
        ),
    ] = "auto",
    epochs: Annotated[int, typer.Option(help="Passes over the data for the heads.")] = 10,
    finetune_epochs: Annotated[int, typer.Option(help="Passes over the data for the encoder.")] = 3,
    frozen_layers: Annotated[int, typer.Option(help="Lowest layers that fine-tuning leaves alone.")] = 2,
    encoder: Annotated[
        str, typer.Option(help="minilm-4, minilm-6 or a file of eccos distil; see above.")
    ] = "minilm-4",
    max_tokens: Annotated[int, typer.Option(help="What the encoder reads of a query, word pieces.")] = 256,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    device: Annotated[str, typer.Option(help="Where torch computes: cpu or cuda.")] = "cpu",
    quality_scale: Annotated[
        float, typer.Option(help="What stands for a perfect answer in the data, such as 10 or 100.")
    ] = 1.0,
    source: Annotated[
        list[str] | None,
        typer.Option(help="A line for the model card: where data come from, and their licence."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Train predictors on labelled queries and write them as a bundle.

    A bundle holds all three kinds of predictor; which one routes is chosen when it is loaded (hybrid unless
    told otherwise). What to take when:

    \b
    few hundred queries     --head linear: nothing to overfit; the neighbours
                            carry most
    a thousand and more     the default: an MLP on the frozen encoder, two
                            minutes per 10,000 queries
    tens of thousands       --finetune --device cuda: the encoder learns what
                            makes a query hard; on two CPU cores a pass over
                            8,000 queries takes about ten minutes
    texts unlike exams      --encoder minilm-6: six layers, as published; the
                            default's four were taught on exam questions to
                            say the same in two thirds of the time. Or make
                            one from your texts alone: eccos distil
    other models' answers   --aux FILE: even models you never route to tell
                            how hard a query is
    a new model only        do not train: router.add_model takes 50 labelled
                            queries

    Figures come from held-back queries (--holdout); near-identical questions never stand on both sides. The
    same data, options and seed give the same bundle. Ctrl-C leaves no half-written bundle.

    \b
    eccos train answers.parquet --out models/mine
    eccos train answers.jsonl --out models/mine --pool pool.toml
    eccos train answers.jsonl --out models/mine --aux others.parquet
    """  # noqa: D301 - \b keeps typer from joining the lines
    from eccos_rs.errors import InputError
    from eccos_rs.train.options import TrainOptions

    options = TrainOptions(
        head=head, finetune=finetune, holdout=holdout, refit=refit, epochs=epochs,
        finetune_epochs=finetune_epochs, frozen_layers=frozen_layers, encoder=encoder, max_tokens=max_tokens,
        seed=seed, device=device, teacher_share=_share(teacher_share),
    )  # fmt: skip
    if out.exists() and not (out / "bundle.toml").is_file():
        raise InputError(f"{out}: exists and is not a bundle; it is not replaced")
    with needing_extra("train", "training"):
        from eccos_rs.train.data import read_training_data
        from eccos_rs.train.pipeline import train_bundle
        from eccos_rs.train.prices import pool_for
    read = read_training_data(data, aux or (), quality_scale)
    result = train_bundle(
        read, out, pool_for(read.table, pool), options, sources=source or (), progress=progress_bar
    )
    _report(result, json_)


def _share(text: str) -> float | Literal["auto"]:
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"--teacher-share: got {text!r}, wanted 0 to 1, or auto") from None


def _verdict(result: TrainResult) -> Verdict | None:
    """Judge the hybrid on the held-back queries, against sending everything to the strongest model."""
    from eccos_rs.evaluate.verdict import judge_table

    held = result.held_out
    return None if held is None else judge_table(held.table, (held.quality, held.cost))


def _report(result: TrainResult, as_json: bool) -> None:
    verdict = _verdict(result)
    if as_json:
        import json
        import sys

        content: dict[str, Any] = {
            "bundle": str(result.bundle.path),
            "learned": result.learned,
            "held_back": result.held_back,
            "figures": result.figures,
            "teacher_shares": result.shares,
            "verdict": None if verdict is None else verdict.to_dict(),
        }
        sys.stdout.write(json.dumps(content) + "\n")
        return
    from eccos_rs.domain.tables import light_table
    from eccos_rs.train.card import describe_shares, figure_rows

    shown = console()
    if result.figures:
        table = light_table(f"On {result.held_back:,} held-back queries")
        table.add_column("measure")
        for kind in result.figures:
            table.add_column(kind, justify="right")
        for row in figure_rows(result.figures):
            table.add_row(*row)
        shown.print(table)
    size = result.bundle.size / 1e6
    shown.print(f"Wrote {result.bundle.path} ({size:.1f} MB), learned from {result.learned:,} queries.")
    shown.print(describe_shares(result.shares))
    if verdict is not None:
        shown.print(f"verdict: {verdict.sentence}", markup=False)
