"""CSV (RFC 4180, UTF-8, times in ISO 8601 UTC) and Parquet, from one description of the columns."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, BinaryIO, Final

from agent.clock import iso_utc
from agent.errors import ConfigError
from receiver.exports.columns import Column

_GROUP: Final = 20_000  # rows of one Parquet row group: what is held in memory


def write_csv(out: BinaryIO, columns: Sequence[Column], items: Iterable[Any]) -> int:
    """Write a header and a row for each item; return their number."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    cells = [_cell(c) for c in columns]
    rows = 0
    try:
        sheet = csv.writer(text)
        sheet.writerow([c.name for c in columns])
        for item in items:
            sheet.writerow([cell(item) for cell in cells])
            rows += 1
    finally:
        text.detach()
    return rows


def _cell(column: Column) -> Callable[[Any], Any]:
    """Return what writes a column's cell; None is an empty one."""
    value, shown = column.value, _SHOWN.get(column.kind)
    if shown is None:
        return value
    return lambda item: None if (v := value(item)) is None else shown(v)


def _plain(text: str) -> str:
    """Return a text that no spreadsheet runs: devices choose some of the texts."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


_SHOWN: Final[dict[str, Callable[[Any], str]]] = {
    "time": iso_utc,
    "flag": lambda v: "true" if v else "false",
    "text": _plain,
}


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
