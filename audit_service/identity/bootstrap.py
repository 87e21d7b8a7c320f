"""The first administrator, and access for whoever holds the database."""

from datetime import timedelta

from sqlalchemy import func, select

from audit_service.db import locks
from audit_service.db.handles import Acting, Database, WriteSession, act
from audit_service.db.tables import MembershipRow, OrganisationRow
from audit_service.domain.roles import Role
from audit_service.errors import Conflict
from audit_service.identity import people, tokens
from audit_service.identity.tokens import Secret

FIRST_ORGANISATION = "01936f5e-0000-7000-8000-00000000f125"
"""Made by the migrations; what was there before there were organisations is its own."""
FIRST_EMAIL = "admin@localhost"
BY = "operator"
"""Who has the database's own login, and with it every right."""
LASTS = timedelta(days=3650)
"""The administrator's token of a machine; whoever reads the file that it lies in can read the database's password."""


def first_administrator(database: Database) -> Secret | None:
    """The token of a new administrator of the first organisation; none if it has somebody already."""
    with database.writing() as session:
        locks.hold(session, "first administrator")
        members = select(func.count()).where(MembershipRow.organisation_id == FIRST_ORGANISATION)
        if session.scalar(members):
            return None
        member = _administrator(session, FIRST_ORGANISATION, email=FIRST_EMAIL, password=None)
        return _token(session, member)


def add_organisation(database: Database, name: str, *, email: str, password: str | None) -> Secret:
    """A new organisation with its first administrator, and the token of that.

    Raises:
        Conflict: there is one of that name.
    """
    with database.writing() as session:
        locks.hold(session, "organisations")
        if session.scalar(select(OrganisationRow.id).where(OrganisationRow.name == name)):
            raise Conflict(f"There is an organisation called {name!r}.", remedy="Choose another name.")
        organisation = OrganisationRow(name=name)
        session.add(organisation)
        session.flush()
        return _token(session, _administrator(session, organisation.id, email=email, password=password))


def _administrator(session: WriteSession, organisation_id: str, *, email: str, password: str | None) -> MembershipRow:
    wanted = people.add(session, organisation_id, email=email, name="Administrator", role=Role.ADMIN, password=password)
    return wanted.row


def _token(session: WriteSession, member: MembershipRow) -> Secret:
    act(session, Acting(member.organisation_id, user_id=member.user_id))
    return tokens.issue(
        session,
        organisation_id=member.organisation_id,
        name="administrator",
        by=BY,
        lasts=LASTS,
        user_id=member.user_id,
    )
