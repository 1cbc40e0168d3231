"""Ray: predict a data set on a cluster, assign all of it together, write it in parts; see docs/scale.md."""

from __future__ import annotations

import json
import logging
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs import errors
from eccos_rs.bulk.certificate import JointCertificate
from eccos_rs.bulk.job import JobSummary, write_manifest
from eccos_rs.bulk.joint import solve_shards
from eccos_rs.bulk.limits import check_policy, joint_capacity, joint_goal
from eccos_rs.bulk.queries import RowReader
from eccos_rs.errors import InputError
from eccos_rs.integrations.ray_actors import RowPredictor, read_file
from eccos_rs.integrations.ray_passes import RayPasses, import_ray
from eccos_rs.records.files import parquet
from eccos_rs.routing.policy import Policy
from eccos_rs.routing.router import Router

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from eccos_rs.bulk.source import Source

__all__ = ["RayPasses", "RayRoute", "route", "route_files"]

BATCH = 1024
"""Rows that an actor predicts at once; smaller blocks are put together, and a block becomes a part."""

TOLD = "error.json"
"""File in the work folder with what was wrong with a row."""


@dataclass(frozen=True, slots=True)
class RayRoute:
    """What `route` returns: what it came to, and where the parts are.

    Attributes
    ----------
    summary : JobSummary
        Status, rows, cost, mean quality, bound and gap, rows at each model.
    certificate : JointCertificate
        Checks all of it again, one part at a time.
    path : Path
        Folder of Parquet parts with ``model``, ``quality``, ``input_tokens``, ``output_tokens``, ``cost`` and
        the data set's own columns, and ``manifest.json``.
    predicted : Path
        Folder of the predictions, one file per part under the same name.
    """

    summary: JobSummary
    certificate: JointCertificate
    path: Path
    predicted: Path

    def dataset(self) -> Any:
        """Return the parts as a data set of Ray."""
        return import_ray().data.read_parquet([str(part) for part in sorted(self.path.glob("*.parquet"))])

    def __repr__(self) -> str:
        told = self.summary
        return (
            f"RayRoute({told.status}: {told.rows:,} rows, cost ${told.cost:.6g}, quality {told.quality:.4f}, "
            f"gap {told.gap:.1e}, {str(self.path)!r})"
        )


def route(
    dataset: Any,
    *,
    work: str | os.PathLike[str] | None = None,
    router: Router | Callable[[], Router] | None = None,
    column: str | None = None,
    reader: RowReader | None = None,
    policy: Policy | None = None,
    actors: int | None = None,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    **policy_fields: Any,
) -> RayRoute:
    """Choose a model for every row of a data set of Ray, all rows together.

    Parameters
    ----------
    dataset : ray.data.Dataset
        Rows as `eccos route` reads them: a text, messages, and what a query needs, by column names.
    work : path, optional
        A new folder that every node reaches: predictions and parts are written there. A cluster of one
        machine needs none and takes a temporary one.
    router : Router, or callable that returns one, optional
        Each actor gets its own, a router of a bundle as the place of the bundle, which every node must have.
    column : str, optional
        The column with the text or the messages.
    reader : RowReader, optional
        In place of `column`.
    policy : Policy, optional
    actors : int, optional
        That predict, at most; by default as many as leave a CPU for the tasks that read.
    num_cpus, num_gpus : float
        Of each of them.
    **policy_fields
        Fields of `Policy`, such as ``min_quality=0.8`` or ``budget=400``.

    Returns
    -------
    RayRoute

    Raises
    ------
    InputError
        `work` is not a new folder, or the cluster has too few CPUs for an actor beside a task that reads.
    PolicyError, QueryError
        A limit or a row is malformed.

    Notes
    -----
    Ray Data reads and predicts; plain actors that keep their arrays make the passes over the predictions. One
    that is lost with its node starts again elsewhere and reads its predictions again.

    Examples
    --------
    >>> import ray
    >>> found = route(ray.data.read_parquet("s3://logs/"), work="/mnt/routed", budget=400)  # doctest: +SKIP
    >>> found.summary.gap, all(found.certificate.claims())                                # doctest: +SKIP
    (3.1e-08, True)
    """
    ray = import_ray()
    policy = Policy() if policy is None else policy
    made = Router.load() if router is None else router
    pool = (made if isinstance(made, Router) else made()).pool
    policy = check_policy(policy.replace(**policy_fields) if policy_fields else policy, pool)
    names, capacity = pool.names, joint_capacity(policy, pool)
    most = _predictors(ray, num_cpus, actors)
    folder = _new_folder(ray, work)
    predicted, out = folder / "predicted", folder / "routed"
    predicted.mkdir(parents=True)
    out.mkdir()
    told = folder / TOLD
    with _quiet(ray), _own_errors(told):
        dataset.map_batches(
            RowPredictor,
            fn_constructor_args=[made, policy, RowReader(column) if reader is None else reader, told],
            batch_format="pyarrow",
            batch_size=BATCH,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=num_cpus,
            num_gpus=num_gpus or None,
        ).write_parquet(str(predicted))
    # Ray numbers the files by task and block behind an id of the write: their order is that of the data set.
    files = sorted(predicted.glob("*.parquet"))
    if not files:
        raise InputError("the data set has no rows")
    with RayPasses(files, len(names)) as passes:
        goal = joint_goal(policy, passes)
        answer = solve_shards(passes, goal, capacity=capacity, confidence=policy.confidence)
        figures = passes.write(answer, names, out)
    certificate = JointCertificate(answer.goal, answer.bound_prices or answer.prices, capacity, figures)
    promised = answer.goal.value - answer.margin if answer.goal.kind == "min_quality" else None
    summary = JobSummary.of(answer, certificate, names, promised)
    write_manifest(out, summary, certificate, [file.name for file in passes.files], {})
    return RayRoute(summary, certificate, out, predicted)


def route_files(
    source: Source, router: Router, policy: Policy, work: str | os.PathLike[str], address: str
) -> RayRoute:
    """Route files on a cluster: each file is read by one task, and none needs more than a part in memory.

    Parameters
    ----------
    source : Source
        Files that every node reaches. Own columns come out as texts, but for Parquet files that are alike.
    router : Router
    policy : Policy
    work : path, as `route` takes it
    address : str
        Of the cluster: ``HOST:PORT``, ``auto``, or ``local`` for one on this machine.

    Raises
    ------
    InputError
        There is no cluster at the address.
    """
    ray = import_ray()
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--ray {address}: {error}") from error
    try:
        files = [{"path": str(Path(file).absolute())} for file in source.files]
        dataset = ray.data.from_items(files, override_num_blocks=len(files)).map_batches(
            read_file,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs={
                "source": source,
                "told": Path(work).absolute() / TOLD,
                "texts": not _same_columns(source),
            },
        )
        return route(dataset, work=work, router=router, reader=source.reader, policy=policy)
    finally:
        ray.shutdown()


def _same_columns(source: Source) -> bool:
    """Say whether all files are Parquet with the same columns: blocks of other files may differ in type."""
    import pyarrow as pa

    try:
        schemas = [parquet().read_schema(file) for file in source.files]
    except (pa.ArrowInvalid, OSError):
        return False
    return all(schema.equals(schemas[0]) for schema in schemas[1:])


def _predictors(ray: Any, num_cpus: float, actors: int | None) -> int:
    """Return how many actors predict at most.

    A pool that takes every CPU waits for ever, and without a word, for the tasks that feed it.
    """
    if actors is not None and actors < 1:
        raise InputError(f"actors must be at least 1, got {actors}")
    cpus = float(ray.cluster_resources().get("CPU", 0.0))
    if cpus < num_cpus + 1:
        raise InputError(
            f"the cluster has {cpus:g} CPUs; an actor that predicts takes num_cpus={num_cpus:g}, and a task "
            "that reads 1 more"
        )
    room = int((cpus - 1) / num_cpus) if num_cpus else int(cpus)
    return room if actors is None else min(actors, room)


def _new_folder(ray: Any, work: str | os.PathLike[str] | None) -> Path:
    if work is None:
        machines = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if len(machines) > 1:
            raise InputError(
                f"the cluster has {len(machines)} machines; name a folder that all reach, work=FOLDER"
            )
        return Path(tempfile.mkdtemp(prefix="eccos-ray-"))
    folder = Path(work).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: wanted a new or empty folder")
    return folder


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Silence the bars and plans that Ray Data prints, and leave its settings as they were."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        log.setLevel(level)


@contextmanager
def _own_errors(told: Path) -> Iterator[None]:
    """Raise what an actor found wrong with a row as itself: of an exception, Ray keeps only the text."""
    try:
        yield
    except Exception as error:
        if not told.is_file():
            raise
        said = json.loads(told.read_text(encoding="utf-8"))
        raise getattr(errors, said["kind"], InputError)(said["sentence"]) from error
