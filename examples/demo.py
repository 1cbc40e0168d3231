"""Route the sample queries beside this file with the shipped bundle, and show the plan."""

import sys
from pathlib import Path

from eccos_rs.cli.main import main

QUERIES = Path(__file__).with_name("queries.jsonl")

if __name__ == "__main__":
    # Options of `eccos route` may follow: python examples/demo.py --min-quality 0.7
    main(["route", str(QUERIES), *sys.argv[1:]])
