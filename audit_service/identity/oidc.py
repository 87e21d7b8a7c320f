"""Signing in with an OpenID provider: the authorisation-code flow with PKCE, state and nonce."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import delete, select

from audit_service.db.handles import Acting, Database, act
from audit_service.db.tables import SignInRow, UserRow
from audit_service.errors import InvalidInput, Unauthenticated, Unavailable
from audit_service.identity import people
from audit_service.identity.people import SignedIn
from audit_service.settings import Settings

SCOPE = "openid email profile"
LASTS = timedelta(minutes=10)
SECONDS = 10.0
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
"""No symmetric ones: a provider's public key must never pass for a shared secret."""
CALLBACK = "/v1/sessions/oidc/callback"


class Started(NamedTuple):
    url: str
    """Where to send the browser."""
    state: str
    """The browser keeps it in a cookie and brings it back, so that nobody signs somebody else in."""


class Identity(NamedTuple):
    """Who the provider says it is."""

    issuer: str
    subject: str
    email: str


def start(database: Database, settings: Settings, *, organisation: str | None) -> Started:
    """Begin a sign-in; InvalidInput where no provider is set up."""
    found = _provider(settings)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    with _client(settings) as client:
        url, _ = client.create_authorization_url(
            found["authorization_endpoint"],
            state=state,
            code_verifier=verifier,
            nonce=nonce,
            redirect_uri=_callback(settings),
        )
    now = datetime.now(UTC)
    with database.writing() as session:
        session.execute(delete(SignInRow).where(SignInRow.expires_at < now))
        session.add(
            SignInRow(
                state_digest=_digest(state),
                nonce=nonce,
                verifier=verifier,
                organisation=organisation,
                expires_at=now + LASTS,
            )
        )
    return Started(str(url), state)


def finish(
    database: Database, settings: Settings, *, code: str, state: str, cookie: str | None, address: str | None
) -> SignedIn:
    """The session of the person whom the provider has sent back.

    Raises:
        Unauthenticated: the state is not this browser's, the provider does not vouch, or nobody here is meant.
    """
    if cookie is None or not secrets.compare_digest(cookie.encode(), state.encode()):
        raise Unauthenticated("The sign-in was begun in another browser.", remedy="Begin it again.")
    begun = _taken(database, state)
    identity = _identity(settings, code=code, begun=begun)
    with database.acting(Acting(email=identity.email)).writing() as session:
        user = session.scalars(select(UserRow).where(UserRow.email == identity.email)).one_or_none()
        if user is None:
            raise Unauthenticated(f"{identity.email} has no account here.", remedy="Ask an administrator for one.")
        act(session, Acting(user_id=user.id))
        if user.oidc_subject is None:
            user.oidc_issuer, user.oidc_subject = identity.issuer, identity.subject
            session.flush()
        if (user.oidc_issuer, user.oidc_subject) != (identity.issuer, identity.subject):
            raise Unauthenticated(
                f"The provider has another person at {identity.email} now.", remedy="Ask an administrator."
            )
        return people.open_session(
            session,
            user,
            organisation=begun.organisation,
            lasts=timedelta(hours=settings.session_hours),
            how="oidc",
            address=address,
        )


def _taken(database: Database, state: str) -> SignInRow:
    """The sign-in that was begun with the state; it is there once."""
    query = delete(SignInRow).where(SignInRow.state_digest == _digest(state)).returning(SignInRow)
    with database.writing() as session:
        begun = session.scalars(query).one_or_none()
    if begun is None or begun.expires_at < datetime.now(UTC):
        raise Unauthenticated("The sign-in is not known or took too long.", remedy="Begin it again.")
    return begun


def _identity(settings: Settings, *, code: str, begun: SignInRow) -> Identity:
    """Whom the provider's signed token names, its claims checked (OpenID Connect Core 3.1.3.7)."""
    found = _provider(settings)
    with _spoken(), _client(settings) as client:
        answer = client.fetch_token(
            found["token_endpoint"], code=code, code_verifier=begun.verifier, redirect_uri=_callback(settings)
        )
        keys = KeySet.import_key_set(httpx2.get(found["jwks_uri"], timeout=SECONDS).raise_for_status().json())
        token = jwt.decode(str(answer["id_token"]), keys, algorithms=ALGORITHMS)
        claims = CodeIDToken(
            token.claims,
            token.header,
            options={
                "iss": {"essential": True, "value": settings.oidc_issuer},
                "aud": {"essential": True, "value": settings.oidc_client_id},
                "nonce": {"value": begun.nonce},
            },
            params={"nonce": begun.nonce, "client_id": settings.oidc_client_id},
        )
        claims.validate(leeway=60)
    email = claims.get("email")
    if not email or claims.get("email_verified") is not True:
        raise Unauthenticated("The provider names no verified e-mail address.", remedy="Verify it there.")
    return Identity(str(claims["iss"]), str(claims["sub"]), str(email).lower())


def _provider(settings: Settings) -> dict[str, Any]:
    """The provider's own description of itself."""
    if settings.oidc_issuer is None or settings.public_url is None:
        raise InvalidInput(
            "No OpenID provider is set up.", remedy="Set AUDIT_OIDC_ISSUER, AUDIT_OIDC_CLIENT_ID and AUDIT_PUBLIC_URL."
        )
    with _spoken():
        where = f"{settings.oidc_issuer.rstrip('/')}/.well-known/openid-configuration"
        found: dict[str, Any] = httpx2.get(where, timeout=SECONDS).raise_for_status().json()
        return found


def _client(settings: Settings) -> OAuth2Client:
    secret = settings.oidc_client_secret
    return OAuth2Client(
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret else None,
        scope=SCOPE,
        code_challenge_method="S256",
        timeout=SECONDS,
    )


@contextmanager
def _spoken() -> Iterator[None]:
    """The provider's and the libraries' errors as ours."""
    try:
        yield
    except (httpx2.HTTPError, ValueError) as error:
        if isinstance(error, AuthlibBaseError | JoseError):
            raise Unauthenticated(f"The provider does not vouch: {error}", remedy="Begin it again.") from error
        raise Unavailable(f"The OpenID provider does not answer: {error}", remedy="Try again later.") from error
    except (AuthlibBaseError, JoseError, KeyError) as error:
        raise Unauthenticated(f"The provider does not vouch: {error}", remedy="Begin it again.") from error


def _callback(settings: Settings) -> str:
    assert settings.public_url is not None  # noqa: S101 - whoever has a provider has it
    return settings.public_url.rstrip("/") + CALLBACK


def _digest(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()
