"""Links that let somebody without an account fetch one run's evidence."""

from datetime import datetime

from sqlalchemy import ForeignKey, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp


class ShareRow(Identified, Owned, Base):
    __tablename__ = "shares"

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"), index=True)
    edition: Mapped[int] = mapped_column(Integer)
    """The edition of reports and bundle that was shared; later ones are not."""
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the link's secret."""
    note: Mapped[str] = mapped_column(Text)
    created_by: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    opened: Mapped[int] = mapped_column(Integer, default=0)
    opened_at: Mapped[datetime | None] = mapped_column(Timestamp)
