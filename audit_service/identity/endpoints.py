"""/v1/sessions, /v1/me, /v1/organisation, /v1/users and /v1/tokens."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Cookie, Query, Response

from audit_service.border.handle import Address, AppLimiter, AppSettings, Handle
from audit_service.border.idempotency import Idempotent
from audit_service.border.paging import Page, Paging, paged, sortable
from audit_service.border.preconditions import IfMatch, check, tagged
from audit_service.border.routes import Guarded, Open
from audit_service.border.schemas import Body, Name, Uuid
from audit_service.border.transactions import Reading, Writing
from audit_service.db.tables import MembershipRow, OrganisationRow, TokenRow, UserRow
from audit_service.domain.roles import Role
from audit_service.errors import Unauthenticated
from audit_service.identity import oidc, people, tokens
from audit_service.identity.authentication import Caller
from audit_service.identity.schemas import (
    Me,
    NewToken,
    Organisation,
    OrganisationChange,
    PasswordChange,
    Session,
    SignIn,
    Token,
    TokenCreate,
    User,
    UserChange,
    UserCreate,
)
from audit_service.problems import CHANGES, WITH_BODY, responses

router = APIRouter(tags=["identity"], route_class=Guarded)
open_calls = APIRouter(tags=["identity"], route_class=Open)
"""Calls that need no token."""


@open_calls.post("/sessions", status_code=201, responses=responses(*WITH_BODY, 401))
def sign_in(
    body: Body[SignIn], handle: Handle, settings: AppSettings, limiter: AppLimiter, address: Address
) -> Session:
    """Sign in with a password. The token is shown once and lasts for some hours."""
    for who in (("address", address or ""), ("account", body.email)):
        limiter.hit(settings.login_limit, "login", *who)
    try:
        made = people.sign_in(
            handle,
            email=body.email,
            password=body.password.get_secret_value(),
            organisation=body.organisation,
            lasts=timedelta(hours=settings.session_hours),
            address=address,
        )
    except Unauthenticated as error:
        people.note_failure(handle, email=body.email, how="password", why=error.message, address=address)
        raise
    return Session.made(made.secret, made.member)


_Text = Annotated[str, Query(max_length=2000, pattern=r"^[\x20-\x7e]*$")]
_COOKIE = "audit_sign_in"


@open_calls.get(
    "/sessions/oidc",
    status_code=303,
    response_class=Response,
    responses={303: {"description": "To the provider."}, **responses(503)},
)
def sign_in_elsewhere(
    handle: Handle,
    settings: AppSettings,
    limiter: AppLimiter,
    address: Address,
    organisation: Annotated[Name | None, Query(description="Needed by whoever works for several.")] = None,
) -> Response:
    """Sign in with the OpenID provider that the service is set up with; open it in a browser."""
    limiter.hit(settings.login_limit, "sign-in begun", address or "")  # each takes a row, and asks the provider
    started = oidc.start(handle, settings, organisation=organisation)
    answer = Response(status_code=303, headers={"Location": started.url})
    secure = (settings.public_url or "").startswith("https:")
    answer.set_cookie(
        _COOKIE, started.state, max_age=600, path="/v1/sessions", httponly=True, samesite="lax", secure=secure
    )
    return answer


@open_calls.get("/sessions/oidc/callback", responses=responses(401, 503))
def finish_sign_in(  # noqa: PLR0917 - FastAPI names them
    handle: Handle,
    settings: AppSettings,
    limiter: AppLimiter,
    address: Address,
    response: Response,
    state: _Text,
    code: _Text = "",
    audit_sign_in: Annotated[str | None, Cookie(max_length=200)] = None,
) -> Session:
    """Where the provider sends the browser back to. The token is shown once."""
    limiter.hit(settings.login_limit, "login", "address", address or "")
    try:
        made = oidc.finish(handle, settings, code=code, state=state, cookie=audit_sign_in, address=address)
    except Unauthenticated as error:
        people.note_failure(handle, email="", how="oidc", why=error.message, address=address)
        raise
    response.delete_cookie(_COOKIE, path="/v1/sessions")
    return Session.made(made.secret, made.member)


@router.delete("/sessions/current", status_code=204)
def sign_out(caller: Caller, session: Writing) -> None:
    """Revoke the token that the request carries."""
    tokens.revoke(session, caller.token_id, by=caller.name)


@router.get("/me")
def get_me(caller: Caller) -> Me:
    """Who the service takes the caller for, and what the caller may do."""
    return Me(
        name=caller.name,
        organisation_id=caller.organisation_id,
        role=caller.role,
        permissions=sorted(caller.permissions),
    )


@router.put("/me/password", status_code=204, responses=responses(*WITH_BODY))
def change_password(
    body: Body[PasswordChange], caller: Caller, session: Writing, settings: AppSettings, limiter: AppLimiter
) -> None:
    """Change one's own password for this organisation. Other sign-ins end; tokens stay until they are revoked."""
    limiter.hit(settings.login_limit, "password", caller.name)  # nobody finds it out with a session that was left open
    old, new = body.old.get_secret_value(), body.new.get_secret_value()
    people.change_password(session, caller, old=old, new=new)


@router.get("/organisation")
def get_organisation(caller: Caller, session: Reading, response: Response) -> Organisation:
    """The caller's organisation."""
    return tagged(response, Organisation.of(session.get_one(OrganisationRow, caller.organisation_id)))


@router.patch("/organisation", responses=responses(*WITH_BODY, *CHANGES, 409))
def rename_organisation(
    body: Body[OrganisationChange], caller: Caller, session: Writing, response: Response, if_match: IfMatch = None
) -> Organisation:
    """Give the organisation another name."""
    row = session.get_one(OrganisationRow, caller.organisation_id, with_for_update=True)
    check(Organisation.of(row), if_match)
    people.rename(session, row, body.name, by=caller.name)
    return tagged(response, Organisation.of(row))


@router.get("/users")
def list_users(
    session: Reading,
    paging: Annotated[Paging, sortable(email=UserRow.email, name=MembershipRow.name, role=MembershipRow.role)],
    role: Annotated[Role | None, Query(description="Only those in this role.")] = None,
    active: Annotated[bool | None, Query(description="Only who has access, or only who has none.")] = None,
) -> Page[User]:
    """The organisation's people, those added last first."""
    return paged(session, people.members(role=role, active=active), paging, key=MembershipRow.user_id).page(User)


@router.post("/users", status_code=201, responses=responses(*WITH_BODY, 409, existing=User))
def add_user(body: Body[UserCreate], caller: Caller, session: Writing, once: Idempotent) -> User:
    """Let a person work for the organisation; who does already stays as is (200)."""
    password = body.password.get_secret_value() if body.password else None
    return once.answer(
        session,
        User,
        lambda: people.add(
            session, caller.organisation_id, email=body.email, name=body.name, role=body.role, password=password
        ),
    )


@router.get("/users/{user_id}", responses=responses(404))
def get_user(user_id: Uuid, caller: Caller, session: Reading, response: Response) -> User:
    """One of the organisation's people."""
    return tagged(response, User.of(people.member(session, caller.organisation_id, user_id)))


@router.patch("/users/{user_id}", responses=responses(*WITH_BODY, *CHANGES, 404, 409))
def change_user(  # noqa: PLR0917 - FastAPI names them
    user_id: Uuid,
    body: Body[UserChange],
    caller: Caller,
    session: Writing,
    response: Response,
    if_match: IfMatch = None,
) -> User:
    """Give a person another role, or take the access away or back. It holds from the next request on."""
    row = people.to_change(session, caller, user_id)
    check(User.of(row), if_match)
    people.change(session, row, role=body.role, active=body.active, by=caller.name)
    return tagged(response, User.of(row))


@router.get("/tokens")
def list_tokens(
    session: Reading,
    paging: Annotated[Paging, sortable(name=TokenRow.name, expires=TokenRow.expires_at)],
    sessions: Annotated[bool, Query(description="Those of sign-ins too.")] = False,
) -> Page[Token]:
    """The organisation's tokens without their texts, newest first."""
    return paged(session, tokens.listed(sessions=sessions), paging, key=TokenRow.id).page(Token)


@router.post("/tokens", status_code=201, responses=responses(*WITH_BODY))
def issue_token(body: Body[TokenCreate], caller: Caller, session: Writing) -> NewToken:
    """Make a token. Its text is in this answer and nowhere else, so the call takes no idempotency key."""
    lasts = timedelta(days=body.days)
    made = tokens.issue_for(session, caller, name=body.name, role=body.role, scopes=body.scopes, lasts=lasts)
    return NewToken.made(made)


@router.delete("/tokens/{token_id}", responses=responses(404))
def revoke_token(token_id: Uuid, caller: Caller, session: Writing) -> Token:
    """Revoke a token. It holds from the next request on."""
    return Token.of(tokens.revoke(session, token_id, by=caller.name))
