"""A run's numbers as data frames: columns with types, in which unknown stays unknown (null) and is never 0."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from audit_service.domain.cells import DecisionTable, gap
from audit_service.domain.pairs import Pair
from audit_service.domain.plan import Direction
from audit_service.domain.sentences import english
from audit_service.errors import InvalidInput
from audit_service.findings.schemas import ResultRecord, SiteEffect

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Row = Mapping[str, Any]
Types = Mapping[str, type[str] | type[int] | type[float]]

_PANDAS = {str: "string", int: "Int64", float: "Float64"}


@dataclass(frozen=True)
class Table:
    """Named columns of equal length; a cell without a value is None."""

    types: Types
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to_pandas(self) -> "pandas.DataFrame":
        """A frame with pandas' nullable types."""
        library = _library("pandas")
        made = {name: library.array(self.columns[name], dtype=_PANDAS[kind]) for name, kind in self.types.items()}
        frame: pandas.DataFrame = library.DataFrame(made)
        return frame

    def to_polars(self) -> "polars.DataFrame":
        frame: polars.DataFrame = _library("polars").DataFrame(dict(self.columns), schema=dict(self.types))
        return frame

    def to_arrow(self) -> "pyarrow.Table":
        library = _library("pyarrow")
        kinds = {str: library.string(), int: library.int64(), float: library.float64()}
        schema = library.schema([(name, kinds[kind]) for name, kind in self.types.items()])
        table: pyarrow.Table = library.table(dict(self.columns), schema=schema)
        return table


RESULT = {"id": int, "key": str, "outcome": str, "value": float, "low": float, "high": float, "unit": str, "n": int,
          "p_value": float, "method": str, "reason": str}  # fmt: skip
DECISION = {"pair": str, "kind": str, "form": str, "attribute": str, "reference_group": str, "comparison_group": str,
            "template": str, "profile": str, "reference_cue": str, "comparison_cue": str, "cluster": str,
            "d_reference": float, "d_comparison": float, "gap": float, "p_reference": float, "p_comparison": float,
            "coverage_reference": float, "coverage_comparison": float}  # fmt: skip
"""d and gap in nats, gap = d(reference) - d(comparison); p and coverage are shares."""
EFFECT = {"form": str, "direction": str, "site": str, "kind": str, "layer": int, "head": int, "segment": str,
          "outcome": str, "value": float, "low": float, "high": float, "n": int, "p_value": float, "p_maxt": float,
          "normalised": float, "result_id": int}  # fmt: skip
"""value, low and high in nats."""


def results(records: Iterable[ResultRecord]) -> Table:
    rows = (record.model_dump() | {"reason": record.reason and english(record.reason)} for record in records)
    return _table(RESULT, rows)


def effects(parts: Iterable[tuple[str, Direction, Sequence[SiteEffect]]]) -> Table:
    """``parts``: form, direction and the effects of its sites."""
    return _table(
        EFFECT,
        (
            {"form": form, "direction": direction} | effect.model_dump()
            for form, direction, found in parts
            for effect in found
        ),
    )


def decisions(pairs: Iterable[Pair], files: Iterable[bytes]) -> Table:
    """``files``: cells of decision shards as npz. What is no finite number is None."""
    by_id = {pair.id: pair for pair in pairs}
    return _table(DECISION, (row for file in files for row in _decided(by_id, file)))


def _decided(by_id: Mapping[str, Pair], file: bytes) -> Iterable[Row]:
    with np.load(io.BytesIO(file), allow_pickle=False) as arrays:
        pairs = tuple(by_id[pair_id] for pair_id in arrays["pair_ids"].tolist())
        cells = DecisionTable(pairs, arrays["d"], arrays["log_p_favorable"], arrays["log_p_unfavorable"])
    d, coverage, gaps = cells.d.astype(np.float64), cells.coverage, gap(cells.d)
    for index, pair in enumerate(pairs):
        numbers = {"gap": gaps[index]}
        for side, name in enumerate(("reference", "comparison")):
            numbers[f"d_{name}"] = d[index, side]
            numbers[f"p_{name}"] = expit(d[index, side])
            numbers[f"coverage_{name}"] = coverage[index, side]
        finite = {name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}
        yield pair.model_dump() | {"pair": pair.id} | finite


def _table(types: Types, rows: Iterable[Row]) -> Table:
    listed = list(rows)
    return Table(types, {name: [_plain(row[name]) for row in listed] for name in types})


def _plain(value: Any) -> Any:  # noqa: ANN401 - any cell
    return value.value if isinstance(value, Enum) else value


def _library(name: str) -> Any:  # noqa: ANN401 - a module
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"{name} is not installed.", remedy=f"Install it: pip install {name} (or audit-service[frames])."
        ) from error
