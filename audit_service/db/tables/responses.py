"""What management answered to findings. Postgres lets nobody change an answer; a later one stands beside it."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from audit_service.db.base import Base, Id, Identified, Owned, Value
from audit_service.domain.approvals import Response


class ResponseRow(Identified, Owned, Base):
    __tablename__ = "responses"

    run_id: Mapped[str] = mapped_column(Id, ForeignKey("runs.id"), index=True)
    response: Mapped[Response] = mapped_column(Value(Response))
