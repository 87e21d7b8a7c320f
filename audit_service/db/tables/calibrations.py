"""What work costs on the machines that have run a model."""

from sqlalchemy import ForeignKey, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned, Value
from audit_service.domain.forecast import Calibration


class CalibrationRow(Identified, Owned, Base):
    """One for each model version, kind of device, number format and number of threads: made by the first worker."""

    __tablename__ = "calibrations"
    __table_args__ = (UniqueConstraint("model_version_id", "device", "dtype", "threads"),)

    model_version_id: Mapped[str] = mapped_column(Id, ForeignKey("model_versions.id"))
    device: Mapped[str] = mapped_column(Text)
    dtype: Mapped[str] = mapped_column(Text)
    threads: Mapped[int] = mapped_column(Integer)
    content: Mapped[Calibration] = mapped_column(Value(Calibration))
