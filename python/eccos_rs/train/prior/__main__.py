"""Train the bundle that names no model: ``python -m eccos_rs.train.prior DATA… --base B --out FOLDER``."""

from __future__ import annotations

import argparse
from pathlib import Path

from eccos_rs.predict.bundle import Bundle
from eccos_rs.train.prior.export import train_prior


def main() -> None:
    """Read the arguments, train, say what was made."""
    parser = argparse.ArgumentParser(
        prog="python -m eccos_rs.train.prior",
        description="Learn how hard texts are, which category they are of and how long answers to them are, "
        "from public answers of many models; write it as a bundle that names no model.",
    )
    parser.add_argument("data", type=Path, nargs="+", help="Parquet files, a row a query and model")
    parser.add_argument("--base", required=True, help="the trained bundle whose encoder is used and lent")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle, beside the base")
    parser.add_argument(
        "--states", type=Path, default=Path("results/day-one-states.npz"), help="kept between runs"
    )
    parser.add_argument("--source", action="append", default=[], help="for the model card; may be repeated")
    args = parser.parse_args()
    made = train_prior(args.data, args.out, Bundle.load(args.base), args.states, sources=args.source)
    print(f"{made.bundle!r}: {made.queries:,} queries, {made.categories} categories, {made.models} models")


if __name__ == "__main__":
    main()
