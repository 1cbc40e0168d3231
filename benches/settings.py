"""What can be set about the benches, from the environment."""

from __future__ import annotations

import os

# Set by `make bench-once`: everything runs once, untimed, and as small as it can.
ONCE = bool(os.environ.get("ECCOS_BENCH_ONCE"))
# The assumption behind the share of LLM response time.
TOKENS_PER_SECOND = float(os.environ.get("ECCOS_TOKENS_PER_SECOND", "50"))
# Mean output of the labelled queries that the shipped bundle was trained on, over its models.
MEAN_OUTPUT_TOKENS = 237.0
