"""Other projects' labelled data, read into the one record form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import RecordError
from eccos_rs.records.columns import ColumnMap
from eccos_rs.records.importers import (
    aios,
    graphrouter,
    llmrouter,
    llmrouterbench,
    long,
    routellm,
    routerbench,
)
from eccos_rs.records.importers.base import ImportOptions
from eccos_rs.records.read import read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eccos_rs.records.record import Prices, Record

__all__ = ["FORMATS", "ImportOptions", "detect_format", "import_records"]

Reader = "Callable[[Path, ImportOptions], Iterator[Record]]"


@dataclass(frozen=True, slots=True)
class Format:
    """One form: what it is, how its first row is told, and how its files are read.

    Attributes
    ----------
    about : str
        One line for a reader.
    sniff : callable
        Tells the form by a file's first row.
    read : callable
        Reads all files of one import, in order.
    suffixes : tuple of str
        Which files of a folder belong to it.
    """

    about: str
    sniff: Callable[[dict[str, Any]], bool]
    read: Callable[[list[Path], ImportOptions], Iterator[Record]]
    suffixes: tuple[str, ...] = (".csv", ".parquet", ".jsonl", ".json")


def _each(reader: Callable[[Path, ImportOptions], Iterator[Record]]) -> Any:
    def read(paths: list[Path], options: ImportOptions) -> Iterator[Record]:
        for path in paths:
            yield from reader(path, options)

    return read


def _own(path: Path, options: ImportOptions) -> Iterator[Record]:
    return read_records(
        path,
        quality_scale=options.quality_scale,
        ignore=options.ignore,
        prices=options.prices,
        on_error=options.on_error,
        columns=replace(options.columns, dataset=options.dataset),
    )


def _is_record(row: dict[str, Any]) -> bool:
    return "outputs" in row and "input_tokens" in row


def _is_tidy(row: dict[str, Any]) -> bool:
    return "query_id" in row and "model" in row and "quality" in row


_OWN = ("records", "tidy")
"""Forms whose columns may have other names in the file."""

FORMATS: dict[str, Format] = {
    "records": Format("one row per query with its outputs: the record form", _is_record, _each(_own)),
    "tidy": Format("one row per (query, model)", _is_tidy, _each(_own)),
    "aios": Format("AIOS bootstrap JSON", aios.sniff, _each(aios.read), (".json", ".jsonl")),
    "llmrouter": Format("LLMRouter routing data", llmrouter.sniff, llmrouter.read),
    "llmrouterbench": Format(
        "LLMRouterBench result files", llmrouterbench.sniff, llmrouterbench.read, (".json",)
    ),
    "graphrouter": Format("GraphRouter router_data.csv", graphrouter.sniff, graphrouter.read),
    "routerbench": Format("RouterBench's wide table", routerbench.sniff, _each(routerbench.read)),
    "routellm-gsm8k": Format(
        "RouteLLM gsm8k_responses.csv", routellm.sniff_gsm8k, _each(routellm.read_gsm8k)
    ),
    "routellm-mmlu": Format("RouteLLM mmlu_*.csv", routellm.sniff_mmlu, _each(routellm.read_mmlu)),
    # The last: what another form claims is its own.
    "long": Format("one row per (query, model) under the usual names", long.sniff, long.read),
}


def detect_format(path: str | Path, columns: ColumnMap | None = None) -> str:
    """Tell a file's form by its first row, under the names that `columns` gives it.

    Raises
    ------
    RecordError
        No form fits; the sentence names the columns found and the forms there are.
    """
    path = Path(path)
    first = next((columns or ColumnMap()).rows(path), None)
    if first is None:
        raise RecordError(f"{path}: is empty")
    for name, form in FORMATS.items():
        if form.sniff(first[1]):
            return name
    raise RecordError(
        f"{path}: no known form has the columns {', '.join(map(repr, first[1]))}; "
        f"wanted at least a query, a model and its score in each row (rename them by --map COLUMN=FIELD, or "
        f"state one of {', '.join(FORMATS)} by --format to learn what it lacks)"
    )


def import_records(
    sources: str | Path | Sequence[str | Path],
    *,
    form: str = "auto",
    prices: Prices | None = None,
    reprice: bool = False,
    options: ImportOptions | None = None,
) -> Iterator[Record]:
    """Read data of any known form.

    Parameters
    ----------
    sources : path or sequence of paths
        Files, or folders whose files of that form are read in the order of their names.
    form : str, default "auto"
        A key of `FORMATS`; `"auto"` tells it by the first file's first row.
    prices : mapping, optional
        Model to (input, output) US dollars per million tokens, for forms without costs.
    reprice : bool, default False
        Price every output anew from `prices`, also where the file states a cost.
    options : ImportOptions, optional
        How strictly to read, and what to assume.

    Yields
    ------
    Record
        Ids are unique over all sources.

    Raises
    ------
    RecordError
        As `read_records`; or no form fits.
    """
    options = ImportOptions() if options is None else options
    if prices is not None:
        options = replace(options, prices=prices)
    if reprice and options.prices is None:
        raise RecordError("reprice: there is no price list to price by; name a pool file (--pool)")
    given = [sources] if isinstance(sources, (str, Path)) else list(sources)
    if not given:
        raise RecordError("sources: got none, wanted at least one file or folder")
    paths = _files([Path(source) for source in given], form)
    name = detect_format(paths[0], options.columns) if form == "auto" else form
    if name not in FORMATS:
        raise RecordError(f"form: got {name!r}, wanted auto or one of {', '.join(FORMATS)}")
    if options.columns.names and name not in _OWN:
        raise RecordError(
            f"map: the form {name} has columns of its own; columns are mapped for {' and '.join(_OWN)}"
        )
    return _unique(FORMATS[name].read(paths, options), reprice=reprice, options=options, many=len(paths) > 1)


def _files(sources: list[Path], form: str) -> list[Path]:
    suffixes = FORMATS[form].suffixes if form in FORMATS else (".json", ".jsonl", ".csv", ".parquet")
    paths: list[Path] = []
    for source in sources:
        if not source.is_dir():
            paths.append(source)
            continue
        found = sorted(path for path in source.rglob("*") if path.suffix in suffixes and path.is_file())
        if not found:
            raise RecordError(f"{source}: the folder holds no {', '.join(suffixes)} file")
        paths += found
    return paths


def _unique(
    records: Iterator[Record], *, reprice: bool, options: ImportOptions, many: bool
) -> Iterator[Record]:
    from eccos_rs.records.check import Place
    from eccos_rs.records.seen import SeenIds

    seen = SeenIds()
    for number, record in enumerate(records, start=1):
        place = Place("the sources together" if many else "the source", number, "id")
        try:
            if record.id is not None:
                seen.add(record.id, place)
            yield _repriced(record, place, options) if reprice else record
        except RecordError as error:
            options.report(error)


def _repriced(record: Record, place: Any, options: ImportOptions) -> Record:
    outputs = tuple(
        replace(o, cost_usd=options.cost(o.model, (record.prompt_tokens(o), o.output_tokens), place))
        for o in record.outputs
    )
    return replace(record, outputs=outputs)
