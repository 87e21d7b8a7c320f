"""The register of a run's results: every printed number is taken from here and leaves its reference behind."""

from collections.abc import Iterable

from audit_service.domain.results import Outcome, Result
from workers.rendering import numbers
from workers.rendering.blocks import Cell
from workers.rendering.catalogue import Catalogue


class Book:
    """Gives results as cells and remembers which of them were printed."""

    def __init__(self, results: Iterable[Result], t: Catalogue) -> None:
        self.results = {result.key: result for result in results}
        self.refs = {key: f"R{index}" for index, key in enumerate(self.results, start=1)}
        self.printed: dict[str, None] = {}
        self._t = t

    def __contains__(self, key: str) -> bool:
        return key in self.results

    def value(self, key: str) -> float | None:
        """The unrounded value for charts and order, None where there is none."""
        found = self.results.get(key)
        return found.value if found and found.outcome is Outcome.MEASURED else None

    def bounds(self, key: str) -> tuple[float | None, float | None]:
        found = self.results.get(key)
        return (found.low, found.high) if found else (None, None)

    def ref(self, key: str) -> str | None:
        """The printed reference of a key; asking for it puts the row into the printed register."""
        if key not in self.results:
            return None
        self.printed[key] = None
        return self.refs[key]

    def text(self, result: Result) -> str:
        if result.outcome is not Outcome.MEASURED or result.value is None:
            return self._t(f"outcome.{result.outcome}")
        return numbers.quantity(result.value, result.unit)

    def number(self, key: str) -> Cell:
        """The value as printed, with its reference."""
        if key not in self.results:
            return Cell(text=self._t("outcome.not_computed"), style="status")
        measured = self.results[key].outcome is Outcome.MEASURED
        return Cell(text=self.text(self.results[key]), ref=self.ref(key), style="number" if measured else "status")

    def interval(self, key: str) -> Cell:
        """The interval of the same row: no reference of its own."""
        found = self.results.get(key)
        return Cell(text=numbers.interval(found) if found else "", style="number")

    def p(self, key: str) -> Cell:
        """The p value that the row carries beside its value."""
        found = self.results.get(key)
        return Cell(
            text="" if found is None or found.p_value is None else numbers.p_text(found.p_value), style="number"
        )

    def units(self, key: str) -> Cell:
        """Independent units behind the value."""
        found = self.results.get(key)
        return Cell(text="" if found is None or found.n is None else f"{found.n:,}", style="number")
