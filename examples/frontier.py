"""What quality costs: the exact trade-off for one batch, by the solver alone."""

from pathlib import Path

from eccos_rs import Query, Router, frontier
from eccos_rs.cli.common import read_queries

queries: list[Query] = read_queries(str(Path(__file__).with_name("queries.jsonl")))
router = Router.load()
problem = router.problem(router.predict(queries), queries)
curve = frontier(problem.cost, problem.quality, allowed=problem.allowed)

step = max(1, len(curve.quality) // 12)
for quality, cost, price in zip(curve.quality[::step], curve.cost[::step], curve.price[::step], strict=False):
    print(f"mean success {100 * quality:5.2f} %  ${cost:.5f}  the next point costs ${price / 100:.5f}")
