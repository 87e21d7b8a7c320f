"""What the operator does for people who cannot help themselves: who has the database's own login has every right.

Each act is in the organisation's event log, by "operator".
"""

import uuid
from datetime import timedelta

from sqlalchemy import select

from audit_service.db.handles import Acting, Database, WriteSession, act
from audit_service.db.tables import MembershipRow, OrganisationRow, TokenRow, UserRow
from audit_service.domain.lifecycle import EventKind
from audit_service.domain.roles import Permission
from audit_service.errors import NotFound
from audit_service.events import repository as events
from audit_service.identity import passwords, people, tokens
from audit_service.identity.bootstrap import BY
from audit_service.identity.tokens import Secret


def reset_password(database: Database, email: str, password: str, *, organisation: str | None = None) -> None:
    """Give a person another password for the organisation; the sign-ins there end."""
    with database.writing() as session:
        member = _member(session, email, organisation)
        member.password_hash = passwords.hashed(password)
        session.flush()
        tokens.end_sessions(session, member.user_id)
        _note(session, member, "password")


def set_access(database: Database, email: str, *, active: bool, organisation: str | None = None) -> None:
    """Take a person's access to the organisation away, or give it back; what was revoked with it stays revoked."""
    with database.writing() as session:
        member = _member(session, email, organisation)
        member.active = active
        session.flush()
        people.end_what_is_beyond(session, member, by=BY)
        _note(session, member, "access")


def reissue(database: Database, of: str, *, lasts: timedelta, organisation: str | None = None) -> Secret:
    """A new token in the place of a lost one, which is revoked; ``of`` is the lost one's id.

    ``of`` may be a person's e-mail address instead: one token then takes the place of all that the person has.

    Raises:
        NotFound: there is no such token or person.
        InvalidInput: the person works for several organisations, and none of them was named.
    """
    with database.writing() as session:
        return _for_person(session, of, lasts, organisation) if "@" in of else _for_token(session, of, lasts)


def _for_person(session: WriteSession, email: str, lasts: timedelta, organisation: str | None) -> Secret:
    member = _member(session, email, organisation)
    lost = select(TokenRow.id).where(
        TokenRow.user_id == member.user_id, ~TokenRow.session, TokenRow.revoked_at.is_(None)
    )
    for token_id in session.scalars(lost).all():
        tokens.revoke(session, token_id, by=BY)
    return tokens.issue(
        session,
        organisation_id=member.organisation_id,
        name=member.user.email,
        by=BY,
        lasts=lasts,
        user_id=member.user_id,
    )


def _for_token(session: WriteSession, token_id: str, lasts: timedelta) -> Secret:
    row = session.get(TokenRow, token_id) if _is_id(token_id) else None
    if row is None:
        raise NotFound(f"There is no token {token_id}.", remedy="Name it by its id, or a person by e-mail address.")
    act(session, Acting(row.organisation_id, user_id=row.user_id))
    tokens.revoke(session, row.id, by=BY)
    return tokens.issue(
        session,
        organisation_id=row.organisation_id,
        name=row.name,
        by=BY,
        lasts=lasts,
        user_id=row.user_id,
        role=row.role,
        scopes=None if row.scopes is None else [Permission(scope) for scope in row.scopes],
    )


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _member(session: WriteSession, email: str, organisation: str | None) -> MembershipRow:
    """The membership, and the rest of the transaction for its organisation."""
    query = select(MembershipRow).join(UserRow).join(OrganisationRow).where(UserRow.email == email.lower())
    if organisation is not None:
        query = query.where(OrganisationRow.name == organisation)
    found = session.scalars(query.order_by(MembershipRow.organisation_id)).all()
    if not found:
        raise NotFound(f"{email} has no access there.", remedy="Check the address and the organisation's name.")
    member = people.the_one(found, email)
    act(session, Acting(member.organisation_id, user_id=member.user_id))
    return member


def _note(session: WriteSession, member: MembershipRow, what: str) -> None:
    access = {"role": member.role.value, "active": member.active} if what == "access" else {}
    data = {"id": member.user_id, "email": member.user.email, "what": what, **access}
    events.append(session, None, EventKind.USER, actor=BY, data=data)
