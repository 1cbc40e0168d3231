"""Passes over files of predictions on Ray's actors, which keep their arrays."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import MissingExtraError
from eccos_rs.integrations.ray_actors import PartWorker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from eccos_rs.bulk.certificate import ShardFigures
    from eccos_rs.bulk.joint import JointAnswer
    from eccos_rs.bulk.passes import DecisionPrices, Goal, Rows, Sums

__all__ = ["RESTARTS", "RayPasses", "import_ray"]

RESTART_SECONDS = 180.0
"""That an actor on a lost node may take to be there again."""

RESTARTS = 4
"""Times that an actor, and a call of it, is started again elsewhere when its node is lost."""


def import_ray() -> Any:
    """Return the module of Ray.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("Ray is not installed: pip install 'eccos-rs[ray]'") from error
    return ray


class RayPasses:
    """Makes passes over files of predictions on actors that keep their arrays; a `Passes`.

    Parameters
    ----------
    files : sequence of Path
        Parquet files that `route` wrote; each is a shard.
    models : int
    workers : int, optional
        Actors; each owns every `workers`-th file, and reads it again when it is restarted on another node. By
        default one per CPU of the cluster.
    """

    def __init__(self, files: Sequence[Path], models: int, workers: int | None = None) -> None:
        ray = self._ray = import_ray()
        self.files, self.models = list(files), models
        cpus = int(ray.cluster_resources().get("CPU", 1))
        count = max(1, min(cpus if workers is None else workers, len(self.files)))
        # They need little more than memory, and must never wait for a CPU that a stage of Ray Data holds.
        kind = ray.remote(
            num_cpus=0, max_restarts=RESTARTS, max_task_retries=RESTARTS, scheduling_strategy="SPREAD"
        )(PartWorker)
        shards = list(enumerate(map(str, self.files)))
        self._workers = [kind.remote(shards[at::count]) for at in range(count)]
        self._size: tuple[int, int] | None = None

    def __enter__(self) -> RayPasses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _all(self, name: str, *arguments: Any) -> list[Any]:
        """Call every worker; return what it says of each shard, in the order of the shards."""
        return self._gathered(name, [arguments] * len(self._workers))

    def _gathered(self, name: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call each worker with its own arguments; a call to one that is being restarted is made again.

        While a lost node has not been noticed, Ray may answer that an actor is unavailable, and does not
        count that as a try. Every call may be repeated: passes only read, and files are replaced whole.
        """
        found: list[Any] = [None] * len(self.files)
        until = time.monotonic() + RESTART_SECONDS
        calls = {at: getattr(worker, name).remote(*arguments[at]) for at, worker in enumerate(self._workers)}
        while calls:
            at, call = next(iter(calls.items()))
            try:
                found[at :: len(self._workers)] = self._ray.get(call)
                del calls[at]
            except self._ray.exceptions.ActorUnavailableError:
                if time.monotonic() > until:
                    raise
                time.sleep(1.0)
                calls[at] = getattr(self._workers[at], name).remote(*arguments[at])
        return found

    def size(self) -> tuple[int, int]:
        """See `Passes`."""
        if self._size is None:
            self._size = self.models, sum(self._all("rows"))
        return self._size

    def sample(self, share: float, seed: int) -> list[Rows]:
        """See `Passes`."""
        return self._all("sample", share, seed)

    def sums(
        self,
        goal: Goal,
        prices: DecisionPrices,
        covariance: NDArray[np.float64],
        share: float,
        list_rows: bool,
    ) -> list[Sums]:
        """See `Passes`."""
        return self._all("sums", goal, prices, covariance, share, list_rows)

    def quality_sums(self) -> list[NDArray[np.float64]]:
        """See `Passes`."""
        return self._all("quality_sums")

    def quality_at(self, score: NDArray[np.float64]) -> list[float]:
        """See `Passes`."""
        return self._all("quality_at", score)

    def write(self, answer: JointAnswer, names: Sequence[str], out: Path) -> list[ShardFigures]:
        """Write each file's rows with their choices into `out`, under its own name."""
        count, bare = len(self._workers), replace(answer, settled=[])
        return self._gathered(
            "write", [(bare, answer.settled[at::count], list(names), str(out)) for at in range(count)]
        )

    def close(self) -> None:
        """End the actors."""
        for worker in self._workers:
            self._ray.kill(worker)
