"""Tokens: made, shown once, checked at every request, revoked."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Select, select, update

from audit_service.db.base import new_id
from audit_service.db.handles import Acting, Database, ReadSession, WriteSession
from audit_service.db.tables import MembershipRow, TokenRow
from audit_service.domain.lifecycle import EventKind
from audit_service.domain.roles import ROLES, Permission, Role
from audit_service.errors import InvalidInput, NotFound, Unauthenticated
from audit_service.events import repository as events
from audit_service.identity.bearer import Bearer
from audit_service.identity.principals import Principal

KIND = "audit"
"""What the text of a token begins with."""
_REMEDY = "Sign in with POST /v1/sessions, or set AUDIT_TOKEN to a token of the service."
_SEEN = timedelta(minutes=5)
"""A use is written down when the last one lies so far back."""


class Secret(NamedTuple):
    row: TokenRow
    text: str
    """It cannot be had again."""


def issue(
    session: WriteSession,
    *,
    organisation_id: str,
    name: str,
    by: str,
    lasts: timedelta,
    maker_id: str | None = None,
    user_id: str | None = None,
    role: Role | None = None,
    scopes: Sequence[Permission] | None = None,
    is_session: bool = False,
) -> Secret:
    """A token of a person, or of a service with a role of its own."""
    token_id = new_id()
    text, digest = Bearer.issue(KIND, organisation_id=organisation_id, id=token_id)
    row = TokenRow(
        id=token_id,
        organisation_id=organisation_id,
        name=name,
        digest=digest,
        user_id=user_id,
        role=role,
        scopes=None if scopes is None else [scope.value for scope in scopes],
        session=is_session,
        created_by=by,
        maker_id=maker_id,
        expires_at=datetime.now(UTC) + lasts,
    )
    session.add(row)
    session.flush()
    if not is_session:
        _note(session, row, what="issued", by=by)
    return Secret(row, text)


def issue_for(
    session: WriteSession,
    caller: Principal,
    *,
    name: str,
    role: Role | None,
    scopes: Sequence[Permission] | None,
    lasts: timedelta,
) -> Secret:
    """A token that the caller asks for: of a service with the role, or without one the caller's own.

    Nobody gives more than the token has that asks: one that is limited gives limited ones.

    Raises:
        InvalidInput: the rights go beyond the role or the caller's, or a service asks for a token with its own.
    """
    if role is None and caller.user_id is None:
        raise InvalidInput("A service's token has no person's rights to give.", remedy="Name a role.")
    given = ROLES[role or caller.role]
    if scopes is None and role is None and caller.permissions != given:
        scopes = sorted(caller.permissions)
    if beyond := sorted(set(scopes or given) - (given & caller.permissions)):
        allowed = ", ".join(sorted(given & caller.permissions)) or "none"
        raise InvalidInput(
            f"The role or the token that asks has no permission for {', '.join(beyond)}.",
            remedy=f"Choose among these as `scopes`: {allowed}.",
        )
    return issue(
        session,
        organisation_id=caller.organisation_id,
        name=name,
        by=caller.name,
        lasts=lasts,
        maker_id=caller.person_id,
        user_id=caller.user_id if role is None else None,
        role=role,
        scopes=scopes,
    )


def authenticate(database: Database, text: str | None, *, address: str | None) -> Principal:
    """The caller whose token it is.

    Raises:
        Unauthenticated: no token, or one that is unknown, expired, revoked, or of somebody who may do nothing here.
    """
    if not text:
        raise Unauthenticated("The request carries no token.", remedy=_REMEDY)
    bearer = Bearer.read(KIND, text)
    if bearer is None:
        raise Unauthenticated("The token is none of this service.", remedy=_REMEDY)
    now = datetime.now(UTC)
    own = database.acting(Acting(bearer.organisation_id))
    with own.reading() as session:
        row = session.get(TokenRow, bearer.id)
        if row is None or not bearer.fits(row.digest):
            raise Unauthenticated("The token is not known.", remedy=_REMEDY)
        principal = _principal(session, _valid(row, now), address)
    if row.used_at is None or row.used_at < now - _SEEN:
        with own.writing() as session:
            session.execute(update(TokenRow).where(TokenRow.id == row.id).values(used_at=now))
    return principal


def _valid(row: TokenRow, now: datetime) -> TokenRow:
    if row.revoked_at is not None:
        raise Unauthenticated("The token was revoked.", remedy=_REMEDY)
    if row.expires_at <= now:
        raise Unauthenticated("The token has expired.", remedy=_REMEDY)
    return row


def _principal(session: ReadSession, row: TokenRow, address: str | None) -> Principal:
    """A person's token has the rights that the person has now."""
    name, role, person_id = f"token:{row.name}", row.role, row.user_id or row.maker_id
    if person_id is not None:
        member = session.get(MembershipRow, (row.organisation_id, person_id))
        if member is None or not member.active:
            whose = "owner" if row.user_id else "maker"
            raise Unauthenticated(f"The token's {whose} has no access any more.", remedy="Ask an administrator.")
        if row.user_id is not None:
            name, role = f"user:{member.user.email}", member.role
    assert role is not None  # noqa: S101 - the table's own check
    return Principal(
        organisation_id=row.organisation_id,
        name=name,
        role=role,
        permissions=_permissions(row, role),
        token_id=row.id,
        user_id=row.user_id,
        person_id=person_id,
        address=address,
    )


def _permissions(row: TokenRow, role: Role) -> frozenset[Permission]:
    """What the token may do, given the role that it acts in."""
    return ROLES[role] if row.scopes is None else ROLES[role] & {Permission(scope) for scope in row.scopes}


def listed(*, sessions: bool) -> Select[TokenRow]:
    """Service's and people's tokens; those of sign-ins too if asked for."""
    query = select(TokenRow)
    return query if sessions else query.where(TokenRow.session.is_(False))


def revoke(session: WriteSession, token_id: str, *, by: str) -> TokenRow:
    """End a token now; a second time changes nothing."""
    if (row := session.get(TokenRow, token_id, with_for_update=True)) is None:
        raise NotFound(f"There is no token {token_id}.", remedy="List them with GET /v1/tokens.")
    if row.revoked_at is None:
        row.revoked_at = datetime.now(UTC)
        session.flush()
        _note(session, row, what="revoked", by=by)
    return row


def revoke_beyond(session: WriteSession, maker_id: str, allowed: frozenset[Permission], *, by: str) -> None:
    """Revoke the services' tokens that a person made, and may know still, and that may do more than ``allowed``."""
    made = select(TokenRow).where(TokenRow.maker_id == maker_id, TokenRow.revoked_at.is_(None)).with_for_update()
    for row in session.scalars(made).all():
        if row.role is not None and not _permissions(row, row.role) <= allowed:
            row.revoked_at = datetime.now(UTC)
            session.flush()
            _note(session, row, what="revoked", by=by, why="its maker may do less now")


def end_sessions(session: WriteSession, user_id: str, *, but: str | None = None) -> None:
    """Revoke the person's sign-ins in the transaction's organisation, ``but`` one; tokens made on purpose stay."""
    ended = update(TokenRow).where(
        TokenRow.user_id == user_id, TokenRow.session, TokenRow.revoked_at.is_(None), TokenRow.id != but
    )
    session.execute(ended.values(revoked_at=datetime.now(UTC)))


def _note(session: WriteSession, row: TokenRow, *, what: str, by: str, why: str | None = None) -> None:
    role = row.role.value if row.role else None
    data = {"id": row.id, "name": row.name, "what": what, "role": role, "why": why}
    events.append(session, None, EventKind.TOKEN, actor=by, data=data)
