"""What a plan will take on one machine: its work, counted, times what a calibration of that machine measured."""

from collections.abc import Iterable

from pydantic import Field

from audit_service.domain.manifest import Frozen
from audit_service.domain.work import Work, flight_bytes, largest_flight, whole_pass


class Calibration(Frozen):
    """What work costs on a device, for one model in one number format; measured on small sweeps of its own prompts."""

    device: str
    dtype: str
    threads: int
    seconds_per_row: float = Field(ge=0)
    """One row through one layer."""
    seconds_per_attended: float = Field(ge=0)
    seconds_per_call: float = Field(ge=0)
    """One flight through one layer, whatever its size."""
    seconds_per_group: float = Field(default=0.0, ge=0)
    """Attention of one group of runs in one layer; 0 where it was not measured apart from calls."""
    seconds_per_entry: float = Field(ge=0)
    """One prompt in front of the first layer: its embeddings, masks and positions."""
    seconds_per_cell: float = Field(ge=0)
    seconds_per_vocabulary_row: float = Field(ge=0)
    last_share: float = Field(ge=0, le=1)
    """Share of a layer's parameters that make queries, keys and values."""
    layer_parameters: int
    vocabulary_parameters: int
    vocabulary: int
    width: int
    heads: int
    resting_bytes: int
    """Of the process (or on the device) with the model loaded and nothing in flight."""
    kept_bytes_per_token: int
    """Of one recorded prompt, all layers."""
    row_bytes: int
    """Of one row in flight, attention scores aside."""
    recording_limit: int
    """Bytes that one recording may keep."""
    flight_limit: int
    measured: int = Field(default=1, ge=1)
    """How often; these are the values of the fastest measurement."""

    def with_another(self, other: "Calibration") -> "Calibration":
        """The faster one of both: a measurement takes too long where something else runs beside it, never too short."""
        reference = whole_pass(REFERENCE_TOKENS, layers=1)
        faster = min(self, other, key=lambda one: one.seconds(reference))
        return faster.model_copy(update={"measured": self.measured + other.measured})

    def seconds(self, work: Work) -> float:
        """Predicted time of some work."""
        return (
            self.seconds_per_row * self._rows(work)
            + self.seconds_per_attended * work.attended
            + self.seconds_per_call * work.layer_calls
            + self.seconds_per_group * work.groups
            + self.seconds_per_entry * work.entries
            + self.seconds_per_cell * work.cells
            + self.seconds_per_vocabulary_row * work.vocabulary_rows
        )

    def flops(self, work: Work) -> float:
        """Two operations for each parameter and row, and four for each width and attended pair."""
        rows = self.layer_parameters * self._rows(work) + self.vocabulary_parameters * work.vocabulary_rows
        return 2 * rows + 4 * self.width * work.attended

    def memory_bytes(self, tokens: float, *, read_at_once: float = 0.0) -> int:
        """Predicted peak while prompts of so many tokens are traced: two recordings and one flight beside the model.

        ``read_at_once`` prompts read over the whole vocabulary together can need more than that.
        """
        kept = 2 * min(self.kept_bytes_per_token * tokens, self.recording_limit)
        shape = {"row_bytes": self.row_bytes, "heads": self.heads}
        rows = largest_flight(self.flight_limit, tokens, **shape)
        logits = LOGIT_BYTES * self.vocabulary * read_at_once
        return int(self.resting_bytes + kept + max(flight_bytes(rows, tokens, **shape), logits))

    def _rows(self, work: Work) -> float:
        return work.layer_rows + self.last_share * work.last_rows


REFERENCE_TOKENS = 64
"""Of the prompt by which two measurements are compared."""
LOGIT_BYTES = 8
"""Of one logit: in the model's product and in float32."""


class Forecast(Frozen):
    """Time and memory of a plan's tracing on one kind of worker; judging and the report come on top."""

    device: str
    dtype: str
    threads: int
    seconds: float = Field(ge=0)
    """With one worker."""
    flops: float = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    """Of one worker, at its peak."""


def forecast(calibration: Calibration, work: Work, *, tokens: float, read_at_once: float = 0.0) -> Forecast:
    """What the work takes where the calibration was made."""
    return Forecast(
        device=calibration.device,
        dtype=calibration.dtype,
        threads=calibration.threads,
        seconds=round(calibration.seconds(work), 2),
        flops=calibration.flops(work),
        memory_bytes=calibration.memory_bytes(tokens, read_at_once=read_at_once),
    )


def fastest(forecasts: Iterable[Forecast]) -> Forecast | None:
    """The shortest forecast; None without any."""
    return min(forecasts, key=lambda one: (one.seconds, one.device), default=None)
