"""`eccos route --out-dir`: files of any size into a folder of parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from eccos_rs.bulk.job import FileJob
from eccos_rs.bulk.limits import check_policy
from eccos_rs.cli.common import json_text, write_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from eccos_rs.bulk.job import JobSummary
    from eccos_rs.bulk.source import Source
    from eccos_rs.routing.policy import Policy
    from eccos_rs.routing.router import Router

__all__ = ["DEFERRED", "Folder", "parse_shard", "run_job", "run_on_ray"]

DEFERRED = 3
"""Exit status when some queries have no model."""


@dataclass(frozen=True, slots=True)
class Folder:
    """What `--out-dir` and its options say."""

    path: Path
    resume: bool
    shard: tuple[int, int]

    def job(
        self, source: Source, router: Router, policy: Policy, form: str, settings: dict[str, Any]
    ) -> FileJob:
        """Return the run over these files."""
        return FileJob(
            source, router, check_policy(policy, router.pool), self.path, form, self.shard, settings
        )


def parse_shard(text: str | None) -> tuple[int, int]:
    """Read I/N, I from 1, as (i, n), i from 0."""
    if text is None:
        return 0, 1
    first, sign, count = text.partition("/")
    if not sign or not first.isdigit() or not count.isdigit() or not 1 <= int(first) <= int(count):
        raise typer.BadParameter(f"--shard: got {text!r}, wanted I/N with I from 1 to N")
    return int(first) - 1, int(count)


def run_job(job: FileJob, folder: Folder, *, as_json: bool) -> None:
    """Run over files into a folder, and say what came of it."""
    from eccos_rs.cli.stages import stage_bars

    job.open(resume=folder.resume)
    with stage_bars(job.source.files, share=1 / folder.shard[1]) as advance:
        summary = job.run(advance)
    _tell(summary, folder.path, as_json=as_json)


def run_on_ray(
    source: Source, router: Router, policy: Policy, folder: Path, address: str, *, as_json: bool
) -> None:
    """Route files on a cluster of Ray into a folder, and say what came of it."""
    from eccos_rs.integrations.ray import route_files

    found = route_files(source, router, policy, folder, address)
    _tell(found.summary, found.path, as_json=as_json)


def _tell(summary: JobSummary, folder: Path, *, as_json: bool) -> None:
    lines = [json_text(summary.to_dict(), indent=2)] if as_json else _job_lines(summary, folder)
    for line in lines:
        write_lines(None, [line])
    if summary.deferred:
        raise typer.Exit(DEFERRED)


def _job_lines(summary: JobSummary, folder: Path) -> Iterator[str]:
    if summary.status == "predicted":
        yield (
            f"this share is predicted; {summary.missing:,} of {summary.parts:,} parts are not yet there: run "
            "the same line again once the other shares have predicted theirs"
        )
        return
    yield f"{summary.rows:,} rows in {summary.parts:,} parts in {folder}"
    yield f"{summary.status}: US$ {summary.cost:.6f}, mean predicted success {summary.quality:.4f}" + (
        "" if summary.promised is None else f", promised {summary.promised:.4f}"
    )
    yield f"certified gap {summary.gap:.1e} over all rows"
    for name, count in summary.models.items():
        if count:
            yield f"  {name}: {count:,}"
    if summary.deferred:
        yield f"{summary.deferred:,} rows that no model may take"
