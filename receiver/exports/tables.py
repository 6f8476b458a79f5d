"""CSV (RFC 4180, UTF-8, times in ISO 8601 UTC) and Parquet, from one description of the columns."""

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, BinaryIO, Final

from agent.clock import iso_utc
from agent.errors import ConfigError
from receiver.exports.columns import Column

_GROUP: Final = 20_000  # rows of one Parquet row group: what is held in memory


def write_csv(out: BinaryIO, columns: Sequence[Column], items: Iterable[Any]) -> int:
    """Write a header and a row for each item; return their number."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True)
    try:
        sheet = csv.writer(text)
        sheet.writerow([c.name for c in columns])
        rows = 0
        for item in items:
            sheet.writerow([_cell(c, c.value(item)) for c in columns])
            rows += 1
    finally:
        text.detach()
    return rows


def _cell(column: Column, value: Any) -> Any:
    if value is None:
        return ""
    if column.kind == "time":
        return iso_utc(value)
    if column.kind == "flag":
        return "true" if value else "false"
    if column.kind == "text" and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"  # a spreadsheet would run it: devices choose some of the texts
    return value


def write_parquet(out: BinaryIO, columns: Sequence[Column], items: Iterable[Any]) -> int:
    """Write row groups of bounded size; times are timestamps in UTC, null where not known. Raise ConfigError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise ConfigError("--format parquet: pyarrow is not installed; pip install 'roadwitness[exports]'") from e
    kinds = {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "time": pa.timestamp("ns", tz="UTC"),
    }
    schema = pa.schema([(c.name, kinds[c.kind]) for c in columns])
    rows, left = 0, iter(items)
    with pq.ParquetWriter(out, schema, compression="zstd") as sheet:
        while group := list(islice(left, _GROUP)):
            arrays = [pa.array([c.value(item) for item in group], kinds[c.kind]) for c in columns]
            sheet.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows += len(group)
    return rows
