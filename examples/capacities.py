"""A batch under limits: what happens when the strong model has few slots, and what one more is worth."""

from pathlib import Path

from eccos_rs import Router
from eccos_rs.cli.common import read_queries

queries = read_queries(str(Path(__file__).with_name("queries.jsonl")))
router = Router.load()
strongest = router.route(queries).baselines[0].model

for slots in (40, 20, 10, 5):
    plan = router.route(queries, relative_quality=0.97, capacity={strongest: slots})
    price = plan.assignment.capacity_price[router.pool.index(strongest)]
    print(f"{slots:3} slots at {strongest}: {plan!r}")
    print(f"    one more slot is worth ${price:.6f}; {plan.explanation or 'the promise holds'}")
