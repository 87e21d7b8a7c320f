"""People, what they may do in an organisation, and how they sign in."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import undefer

from audit_service.db import locks
from audit_service.db.base import Ensured
from audit_service.db.handles import Acting, Database, ReadSession, WriteSession, act, whom
from audit_service.db.queries import narrowed
from audit_service.db.tables import MembershipRow, OrganisationRow, UserRow
from audit_service.domain.lifecycle import EventKind
from audit_service.domain.roles import ROLES, Permission, Role
from audit_service.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from audit_service.events import repository as events
from audit_service.identity import passwords, tokens
from audit_service.identity.principals import Principal
from audit_service.identity.tokens import Secret


class SignedIn(NamedTuple):
    secret: Secret
    member: MembershipRow


def members(*, role: Role | None = None, active: bool | None = None) -> Select[MembershipRow]:
    wanted = {MembershipRow.role: role, MembershipRow.active: active}
    return narrowed(select(MembershipRow).join(MembershipRow.user), wanted)


def rename(session: WriteSession, organisation: OrganisationRow, name: str, *, by: str) -> None:
    """Give the organisation another name.

    Raises:
        Conflict: another organisation has it.
    """
    data = {"from": organisation.name, "to": name}
    organisation.name = name
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict(f"Another organisation is called {name!r}.", remedy="Choose another name.") from error
    events.append(session, None, EventKind.ORGANISATION, actor=by, data=data)


def member(session: ReadSession, organisation_id: str, user_id: str, *, lock: bool = False) -> MembershipRow:
    """A person of the organisation; locked against other changes until the transaction ends if asked for."""
    # The row that is joined for its name need not be locked.
    held = {"of": MembershipRow} if lock else None
    if (row := session.get(MembershipRow, (organisation_id, user_id), with_for_update=held)) is None:
        raise NotFound(f"There is no user {user_id}.", remedy="List them with GET /v1/users.")
    return row


def add(
    session: WriteSession, organisation_id: str, *, email: str, name: str, role: Role, password: str | None
) -> Ensured[MembershipRow]:
    """Let a person work for the organisation, with a name and a password of its own there."""
    act(session, replace(whom(session), organisation_id=organisation_id, email=email))
    user = ensure_user(session, email)
    if present := session.get(MembershipRow, (organisation_id, user.id)):
        return Ensured(present, is_new=False)
    row = MembershipRow(
        organisation=session.get_one(OrganisationRow, organisation_id),
        user=user,
        name=name,
        password_hash=passwords.hashed(password) if password else None,
        role=role,
        active=True,
    )
    session.add(row)
    session.flush()
    return Ensured(row, is_new=True)


def ensure_user(session: WriteSession, email: str) -> UserRow:
    """The person of the address, who may work for other organisations already."""
    user = session.scalars(select(UserRow).where(UserRow.email == email)).one_or_none()
    if user is None:
        user = UserRow(email=email)
        session.add(user)
        session.flush()
    return user


def to_change(session: WriteSession, principal: Principal, user_id: str) -> MembershipRow:
    """The member whose access the caller wants to change, held until the transaction ends.

    Raises:
        NotFound: there is none.
        Conflict: it is the caller, who might lock the last administrator out.
        Forbidden: the caller's own access was taken away at the same moment.
    """
    locks.hold(session, f"access/{principal.organisation_id}")  # or two take each other's, and nobody is left
    row = member(session, principal.organisation_id, user_id, lock=True)
    if user_id == principal.user_id:
        raise Conflict("Nobody changes the own access.", remedy="Ask another administrator.")
    if principal.person_id is not None:
        own = member(session, principal.organisation_id, principal.person_id, lock=True)
        if not own.active or Permission.ADMINISTER not in ROLES[own.role]:
            raise Forbidden("Your own access was changed meanwhile.", remedy="Ask another administrator.")
    return row


def change(session: WriteSession, row: MembershipRow, *, role: Role | None, active: bool | None, by: str) -> None:
    """Give a member another role, or take the access away or back."""
    row.role = role or row.role
    row.active = row.active if active is None else active
    session.flush()
    end_what_is_beyond(session, row, by=by)
    email = row.user.email
    data = {"id": row.user_id, "email": email, "what": "access", "role": row.role.value, "active": row.active}
    events.append(session, None, EventKind.USER, actor=by, data=data)


def end_what_is_beyond(session: WriteSession, member: MembershipRow, *, by: str) -> None:
    """End what would let a person do more than the membership says: sign-ins, and services' tokens that were made."""
    if not member.active:
        tokens.end_sessions(session, member.user_id)
    allowed = ROLES[member.role] if member.active else frozenset[Permission]()
    tokens.revoke_beyond(session, member.user_id, allowed, by=by)


def change_password(session: WriteSession, principal: Principal, *, old: str, new: str) -> None:
    """Set the caller's own password for this organisation, and end the other sign-ins there.

    Raises:
        InvalidInput: the caller is no person.
        Forbidden: the old password is not the present one.
    """
    if principal.user_id is None:
        raise InvalidInput("A service's token has no password.", remedy="Sign in as a person.")
    own = (principal.organisation_id, principal.user_id)
    row = session.get_one(MembershipRow, own, options=[undefer(MembershipRow.password_hash)])
    if row.password_hash is not None and not passwords.fits(old, row.password_hash):
        raise Forbidden("The old password is not right.", remedy="Send the present password as `old`.")
    row.password_hash = passwords.hashed(new)
    session.flush()
    tokens.end_sessions(session, principal.user_id, but=principal.token_id)
    data = {"id": row.user_id, "email": row.user.email, "what": "password"}
    events.append(session, None, EventKind.USER, actor=principal.name, data=data)


def sign_in(
    database: Database,
    *,
    email: str,
    password: str,
    organisation: str | None,
    lasts: timedelta,
    address: str | None = None,
) -> SignedIn:
    """A session for the person.

    Raises:
        Unauthenticated: the password is not right, or nobody has the address; which of them is not told.
        InvalidInput: the person works for several organisations, and none of them was named.
    """
    with database.acting(Acting(email=email)).writing() as session:
        user = session.scalars(select(UserRow).where(UserRow.email == email)).one_or_none()
        found = _memberships(session, user, organisation) if user else []
        opened = [one for one in found if passwords.fits(password, one.password_hash)]
        if not found:  # the answer takes as long as if there were somebody
            passwords.fits(password, None)
        if user is None or not opened:
            raise Unauthenticated("E-mail or password is not right.", remedy="Correct them.")
        chosen = _one_of(opened, email)
        act(session, Acting(chosen.organisation_id, user_id=user.id, address=address))
        if chosen.password_hash is not None and passwords.is_weak(chosen.password_hash):
            chosen.password_hash = passwords.hashed(password)
            session.flush()
        return _session(session, chosen, lasts=lasts, how="password")


def open_session(
    session: WriteSession, user: UserRow, *, organisation: str | None, lasts: timedelta, how: str, address: str | None
) -> SignedIn:
    """A session of a person for whom somebody vouches."""
    found = _one_of(_memberships(session, user, organisation), user.email)
    act(session, Acting(found.organisation_id, user_id=user.id, address=address))
    return _session(session, found, lasts=lasts, how=how)


def _session(session: WriteSession, member: MembershipRow, *, lasts: timedelta, how: str) -> SignedIn:
    user = member.user
    secret = tokens.issue(
        session,
        organisation_id=member.organisation_id,
        name="session",
        by=f"user:{user.email}",
        lasts=lasts,
        user_id=user.id,
        is_session=True,
    )
    data = {"email": user.email, "how": how, "held": True, "why": None}
    events.append(session, None, EventKind.SIGN_IN, actor=f"user:{user.email}", data=data)
    return SignedIn(secret, member)


def note_failure(database: Database, *, email: str, how: str, why: str, address: str | None) -> None:
    """Write a sign-in that failed into the log of each organisation that the person works for.

    What cannot be ascribed, such as the address of nobody, goes into the service's own log.
    """
    with database.reading() as session:
        query = select(MembershipRow.organisation_id).join(UserRow).where(UserRow.email == email)
        concerned: list[str | None] = [*session.scalars(query)]
    data = {"email": email, "how": how, "held": False, "why": why}
    for organisation_id in concerned or [None]:
        with database.acting(Acting(organisation_id, address=address)).writing() as session:
            events.append(session, None, EventKind.SIGN_IN, actor="nobody", data=data)


def _memberships(session: WriteSession, user: UserRow, organisation: str | None) -> list[MembershipRow]:
    """Where the person works, or whether in the organisation of that name; those that were closed too."""
    act(session, Acting(user_id=user.id))
    query = select(MembershipRow).where(MembershipRow.user_id == user.id).options(undefer(MembershipRow.password_hash))
    found = session.scalars(query.order_by(MembershipRow.organisation_id)).all()
    return [one for one in found if organisation in {None, one.organisation.name}]


def _one_of(found: Sequence[MembershipRow], email: str) -> MembershipRow:
    """The one that is open."""
    found = [one for one in found if one.active]
    if not found:
        raise Unauthenticated(f"{email} has no access there.", remedy="Ask an administrator.")
    return the_one(found, email)


def the_one(found: Sequence[MembershipRow], email: str) -> MembershipRow:
    """The only one of these; InvalidInput names the organisations among which to choose."""
    if len(found) > 1:
        raise InvalidInput(
            f"{email} works for several organisations.",
            remedy="Send the name of one as `organisation`.",
            details=[one.organisation.name for one in found],
        )
    return found[0]
