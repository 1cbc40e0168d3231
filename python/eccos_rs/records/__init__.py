"""Labelled data: the record form, its table, importers for other forms, and the collector of new sets."""

from eccos_rs.records.grouping import normalise, text_groups
from eccos_rs.records.read import read_records, write_records
from eccos_rs.records.record import Output, Prices, Record
from eccos_rs.records.table import RecordTable, require_disjoint, split_by_text

__all__ = [
    "Output",
    "Prices",
    "Record",
    "RecordTable",
    "normalise",
    "read_records",
    "require_disjoint",
    "split_by_text",
    "text_groups",
    "write_records",
]
