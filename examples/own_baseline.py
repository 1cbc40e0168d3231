"""A routing rule of one's own, judged beside a blind mix at equal cost on queries that it has not seen.

The records are made up: proofs, which only the large model can do, and sums, which both can. On data of one's
own: ``eccos evaluate DATA --method own_baseline:ByLength``.
"""

import numpy as np

from eccos_rs import Record, RecordTable
from eccos_rs.evaluate import HeldOutSet, Setting, sweep
from eccos_rs.evaluate.methods.base import Batch
from eccos_rs.records import Output


class ByLength:
    """Long questions go to the model that is best on average, the rest to the cheapest."""

    name = "by length"

    def fit(self, table: RecordTable) -> None:
        """Look at labelled queries; none of them is judged later."""
        self.lengths = np.sort([len(text) for text in table.query])
        self.strong = int(np.nanmean(table.quality, axis=0).argmax())
        self.weak = int(np.nanmean(table.cost, axis=0).argmin())

    def choose(self, batch: Batch, operating_point: float) -> np.ndarray:
        """Choose a model per query; `operating_point` is the share that the strong one shall take."""
        limit = np.quantile(self.lengths, 1 - operating_point)
        return np.array([self.strong if len(text) > limit else self.weak for text in batch.texts])


def records(count: int, seed: int) -> RecordTable:
    """Make up labelled queries."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        hard = bool(rng.random() < 0.5)
        text = f"Prove that {number} + x is never the square of x." if hard else f"What is {number} + {seed}?"
        outputs = tuple(
            Output(
                model=name,
                quality=float(rng.random() < chance),
                output_tokens=100,
                cost_usd=100 * price / 1e6,
            )
            for name, chance, price in (("small", 0.2 if hard else 0.95, 0.4), ("large", 0.95, 10.0))
        )
        made.append(Record(query=text, dataset="sums", input_tokens=12, outputs=outputs))
    return RecordTable.from_records(made)


if __name__ == "__main__":
    train, test = records(400, seed=1), records(400, seed=2)
    judged = HeldOutSet(test, np.zeros(len(test)), np.array([[0.1, 0.4], [2.5, 10.0]]))
    rule = ByLength()
    rule.fit(train)
    curve = sweep(rule, Setting(), judged).curve
    cost, quality = (each.sum(axis=1) / curve.count.sum() for each in (curve.cost, curve.quality))
    # Sending a share of all queries to the large model, whatever they ask, reaches any point between the two.
    blind = np.interp(cost, judged.mean_cost, judged.strength)
    print("cost per query   by length   blind mix at that cost")
    for row in np.unique(cost.round(6), return_index=True)[1]:
        print(f"     $ {cost[row]:.6f}       {quality[row]:.1%}       {blind[row]:.1%}")
