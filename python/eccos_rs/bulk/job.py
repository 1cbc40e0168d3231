"""Route files of any size into a folder: predict part by part, solve all parts together, write part by part.

Everything is kept beside the output and appears whole or not at all, so a run that was killed goes on where
it was: no row is predicted, chosen for or written twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.bulk.certificate import JointCertificate, shard_figures
from eccos_rs.bulk.joint import JointAnswer, solve_shards
from eccos_rs.bulk.limits import joint_capacity, joint_goal
from eccos_rs.bulk.passes import DecisionPrices, Goal, LocalPasses, Rows, choose
from eccos_rs.bulk.source import Part, Source
from eccos_rs.errors import InputError
from eccos_rs.records.files import replacing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router

__all__ = ["FileJob", "JobSummary", "PredictedPart", "write_manifest"]

WORK = "_eccos"
"""Folder of what a run keeps beside its output; readers of data sets pass over names that begin so."""

MANIFEST = "manifest.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class PredictedPart:
    """The predictions of one part, on disk."""

    path: Path

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all arrays: cost, quality, allowed, output_tokens, input_tokens."""
        with np.load(self.path) as kept:
            return dict(kept)

    def load(self) -> Rows:
        """Return what the solver needs; see `Shard`."""
        with np.load(self.path) as kept:
            return Rows(kept["cost"], kept["quality"], kept["allowed"])

    def digest(self) -> str:
        """Return the sha256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What a run came to.

    Attributes
    ----------
    status : str
        As of `Assignment`; ``predicted`` when other shards have parts left.
    rows, deferred, parts : int
    cost, quality : float
        US dollars of all rows; mean predicted success.
    promised : float or None
    bound, gap : float
    models : dict
        Rows at each model.
    missing : int
        Parts that other shards have yet to predict.
    """

    status: str
    rows: int = 0
    deferred: int = 0
    parts: int = 0
    cost: float = 0.0
    quality: float = 0.0
    promised: float | None = None
    bound: float = 0.0
    gap: float = 0.0
    models: dict[str, int] = field(default_factory=dict)
    missing: int = 0

    @classmethod
    def of(
        cls, answer: JointAnswer, certificate: JointCertificate, names: Sequence[str], promised: float | None
    ) -> JobSummary:
        """Return what an answer came to, from the sums of its shards."""
        return cls(
            answer.status, rows=certificate.rows + certificate.deferred, deferred=certificate.deferred,
            parts=len(certificate.shards), cost=answer.cost, quality=answer.quality, promised=promised,
            bound=answer.bound, gap=answer.gap,
            models=dict(zip(names, certificate.counts.tolist(), strict=True)),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, ready for JSON."""
        return asdict(self)


@dataclass(slots=True)
class FileJob:
    """A run over files.

    Parameters
    ----------
    source : Source
    router : Router
    policy : Policy
    out : Path
        The folder; parts appear in it as ``part-00000.parquet`` or ``.jsonl``, at the end ``manifest.json``.
    form : {"parquet", "jsonl"}
    shard : (int, int)
        Which share of the parts this run predicts and writes: (i, n), i from 0.
    settings : dict
        What else the answer depends on, as JSON has it; a run goes on only under the same.
    """

    source: Source
    router: Router
    policy: Policy
    out: Path
    form: str = "parquet"
    shard: tuple[int, int] = (0, 1)
    settings: dict[str, Any] = field(default_factory=dict)

    def open(self, *, resume: bool) -> None:
        """Make the folder, or find that an earlier run made it in the same way.

        Raises
        ------
        InputError
            The folder holds another run, or one that `resume` does not allow to go on.
        """
        place = self.out / WORK / "job.json"
        settings = {"version": VERSION, "files": self._files(), "rows": self.source.rows, "form": self.form}
        settings |= {"pool": self.router.pool.to_toml(), "policy": _plain(self.policy), **self.settings}
        settings = json.loads(json.dumps(settings))
        if place.is_file():
            kept = json.loads(place.read_text(encoding="utf-8"))
            other = [name for name in {**kept, **settings} if kept.get(name) != settings.get(name)]
            if other:
                raise InputError(
                    f"{self.out} holds a run with other {', '.join(sorted(other))}; name a new folder"
                )
            if not resume and self.shard[1] == 1:
                raise InputError(f"{self.out} holds a run of these files already: --resume goes on with it")
            if self.shard[1] == 1:
                # What a kill left half written; with several shards it may be another's, at work.
                for left in self.out.rglob(".*"):
                    left.unlink(missing_ok=True)
            return
        if self.out.is_dir() and any(self.out.iterdir()):
            raise InputError(f"{self.out}: the folder is not empty")
        with replacing(place) as beside:
            beside.write_text(json.dumps(settings, indent=1), encoding="utf-8")

    def run(self, progress: Callable[[str, int], object] | None = None) -> JobSummary:
        """Do what is left to do.

        Parameters
        ----------
        progress : callable, optional
            Takes the stage (``predict``, ``write``) and the rows just done.

        Raises
        ------
        InputError, QueryError
            A row or a limit is malformed.
        """
        tell = progress or (lambda stage, rows: None)
        parts = self._predict(tell)
        missing = sum(not part.path.is_file() for part in parts)
        if missing:
            return JobSummary("predicted", parts=len(parts), missing=missing)
        answer, promised = self._answer(parts)
        self._write(parts, answer, tell)
        return self._finish(parts, answer, promised)

    def plan(
        self, progress: Callable[[str, int], object] | None = None
    ) -> tuple[JobSummary, JointAnswer, int]:
        """Predict and solve without writing parts; return what the plan is, the answer and the parts."""
        parts = self._predict(progress or (lambda stage, rows: None))
        answer, promised = self._answer(parts)
        return self._summary(parts, answer, promised)[0], answer, len(parts)

    def predicted(self, number: int) -> PredictedPart:
        """Return the predictions of a part."""
        return self._prediction(number)

    def chosen(self, number: int, rows: Rows, answer: JointAnswer) -> NDArray[np.int64]:
        """Return the model of each row of a part, -1 where none may take it."""
        return choose(rows, answer.goal, answer.prices, answer.settled[number])

    def _mine(self, number: int) -> bool:
        return number % self.shard[1] == self.shard[0]

    def _prediction(self, number: int) -> PredictedPart:
        return PredictedPart(self.out / WORK / f"predicted-{number:05d}.npz")

    def _output(self, number: int) -> Path:
        return self.out / f"part-{number:05d}.{self.form}"

    def _files(self) -> list[list[Any]]:
        found = [(file, file.stat()) for file in self.source.files]
        return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in found]

    def _predict(self, tell: Callable[[str, int], object]) -> list[PredictedPart]:
        counted = self.out / WORK / "parts.json"
        if counted.is_file():
            total = int(json.loads(counted.read_text())["parts"])
            parts = [self._prediction(number) for number in range(total)]
            if all(part.path.is_file() for at, part in enumerate(parts) if self._mine(at)):
                return parts
        number = -1
        for found in self.source.parts(lambda at: self._mine(at) and not self._prediction(at).path.is_file()):
            number = found.number if isinstance(found, Part) else found
            if isinstance(found, Part):
                self._predict_part(found)
                tell("predict", len(found.queries))
        with replacing(counted) as beside:
            beside.write_text(json.dumps({"parts": number + 1}))
        return [self._prediction(at) for at in range(number + 1)]

    def _predict_part(self, part: Part) -> None:
        prediction = self.router.predict(part.queries)
        problem = self.router.problem(prediction, part.queries, self.policy)
        place = self._prediction(part.number).path
        with replacing(place) as beside, beside.open("wb") as stream:
            np.savez(
                stream,
                cost=problem.cost,
                quality=problem.quality,
                allowed=problem.allowed,
                output_tokens=problem.output_tokens.astype(np.float32),
                input_tokens=problem.input_tokens,
            )

    def _answer(self, parts: list[PredictedPart]) -> tuple[JointAnswer, float | None]:
        """Solve all parts together, once: the answer is kept, so a run that goes on writes the same."""
        place = self.out / WORK / "answer.npz"
        if not place.is_file():
            passes = LocalPasses(parts)
            capacity = joint_capacity(self.policy, self.router.pool)
            goal = joint_goal(self.policy, passes)
            answer = solve_shards(passes, goal, capacity=capacity, confidence=self.policy.confidence)
            with replacing(place) as beside, beside.open("wb") as stream:
                _save(stream, answer)
        answer = _load(place, len(parts))
        promised = answer.goal.value - answer.margin if answer.goal.kind == "min_quality" else None
        return answer, promised

    def _write(
        self, parts: list[PredictedPart], answer: JointAnswer, tell: Callable[[str, int], object]
    ) -> None:
        wanted = {at for at in range(len(parts)) if self._mine(at) and not self._output(at).is_file()}
        if not wanted:
            return
        for found in self.source.parts(wanted.__contains__):
            if isinstance(found, Part):
                self._write_part(found, parts[found.number], answer)
                tell("write", len(found.queries))

    def _write_part(self, part: Part, predicted: PredictedPart, answer: JointAnswer) -> None:
        kept = predicted.arrays()
        rows = Rows(kept["cost"], kept["quality"], kept["allowed"])
        model = choose(rows, answer.goal, answer.prices, answer.settled[part.number])
        from eccos_rs.bulk.output import routed_table, write_table

        table = routed_table(part, self.router.pool.names, model, kept)
        with replacing(self._output(part.number)) as beside:
            write_table(beside, table, self.form)

    def _finish(self, parts: list[PredictedPart], answer: JointAnswer, promised: float | None) -> JobSummary:
        summary, certificate = self._summary(parts, answer, promised)
        if all(self._output(at).is_file() for at in range(len(parts))):
            outputs = [self._output(at).name for at in range(len(parts))]
            more = {"part_rows": self.source.rows, "files": [str(file) for file in self.source.files]}
            write_manifest(self.out, summary, certificate, outputs, more)
        return summary

    def _summary(
        self, parts: list[PredictedPart], answer: JointAnswer, promised: float | None
    ) -> tuple[JobSummary, JointCertificate]:
        prices, figures = answer.bound_prices or answer.prices, []
        for number, part in enumerate(parts):
            rows = part.load()
            model = choose(rows, answer.goal, answer.prices, answer.settled[number])
            figures.append(shard_figures(rows, model, answer.goal, prices, part.digest()))
        names = self.router.pool.names
        certificate = JointCertificate(
            answer.goal, prices, joint_capacity(self.policy, self.router.pool), figures
        )
        return JobSummary.of(answer, certificate, names, promised), certificate


def write_manifest(
    folder: Path,
    summary: JobSummary,
    certificate: JointCertificate,
    outputs: Sequence[str],
    more: Mapping[str, Any],
) -> None:
    """Write ``manifest.json``: the summary, the certificate, and the parts in the order of its shards."""
    whole = {
        **summary.to_dict(),
        "certificate": certificate.to_dict(),
        **more,
        "outputs": [
            {"file": file, "rows": each.rows + each.deferred}
            for file, each in zip(outputs, certificate.shards, strict=True)
        ],
    }
    with replacing(folder / MANIFEST) as beside:
        beside.write_text(json.dumps(whole, indent=1, default=str), encoding="utf-8")


def _plain(policy: Policy) -> dict[str, Any]:
    """Return the fields of a policy that say something, as JSON has them."""
    found = {each.name: getattr(policy, each.name) for each in fields(policy)}
    plain = {name: dict(value) if hasattr(value, "items") else value for name, value in found.items()}
    return {name: value for name, value in plain.items() if value is not None}


def _save(stream: Any, answer: JointAnswer) -> None:
    bound = answer.bound_prices or answer.prices
    figures = {
        name: getattr(answer, name)
        for name in ("status", "rows", "deferred", "cost", "quality", "bound", "gap", "passes", "margin")
    }
    figures |= {"kind": answer.goal.kind, "value": answer.goal.value}
    np.savez(
        stream,
        figures=np.array(json.dumps(figures)),
        prices=np.array([answer.prices.goal, *answer.prices.places]),
        bound_prices=np.array([bound.goal, *bound.places]),
        pool_prices=answer.prices.pools,
        bound_pool_prices=bound.pools,
        bounds=np.array(answer.bounds),
        counts=answer.counts,
        sizes=np.array([len(index) for index, _ in answer.settled], dtype=np.int64),
        index=np.concatenate([index for index, _ in answer.settled] or [np.zeros(0, np.int64)]),
        model=np.concatenate([model for _, model in answer.settled] or [np.zeros(0, np.int64)]),
    )


def _load(place: Path, parts: int) -> JointAnswer:
    with np.load(place) as kept:
        arrays = dict(kept)
    figures = json.loads(str(arrays["figures"]))
    ends = np.cumsum(arrays["sizes"])[:-1]
    settled = list(zip(np.split(arrays["index"], ends), np.split(arrays["model"], ends), strict=True))
    goal = Goal(figures.pop("kind"), figures.pop("value"))
    if len(settled) != parts:
        raise InputError(f"{place}: is of {len(settled)} parts, there are {parts}")
    return JointAnswer(
        goal=goal,
        prices=_prices(arrays, ""),
        bound_prices=_prices(arrays, "bound_"),
        settled=settled,
        counts=arrays["counts"],
        bounds=arrays["bounds"].tolist(),
        **figures,
    )


def _prices(arrays: Mapping[str, Any], kind: str) -> DecisionPrices:
    whole = arrays[f"{kind}prices"]
    # An answer of an earlier release knows no shared capacities.
    return DecisionPrices(float(whole[0]), whole[1:], arrays.get(f"{kind}pool_prices", np.zeros(0)))
