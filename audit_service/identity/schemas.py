"""People, tokens and sessions as they come in and go out."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, SecretStr, StringConstraints

from audit_service.border.schemas import Answer, Name
from audit_service.db.tables import MembershipRow
from audit_service.domain.manifest import Frozen
from audit_service.domain.roles import Permission, Role
from audit_service.identity import passwords
from audit_service.identity.tokens import Secret

Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[^\x00-\x20@]+@[^\x00-\x20@]+$", to_lower=True)]
Password = Annotated[
    SecretStr, Field(min_length=passwords.SHORTEST, max_length=200, examples=["correct horse battery staple"])
]
LONGEST_DAYS = 366


class SignIn(Frozen):
    """Who wants to sign in, and where."""

    email: Email = Field(examples=["anna@bank.example"])
    password: SecretStr = Field(max_length=200, examples=["correct horse battery staple"])
    organisation: Name | None = None
    """Needed by whoever works for several."""


class Session(Answer):
    """A sign-in. The token is shown once."""

    token: str
    """Send it as `Authorization: Bearer …`."""
    expires_at: datetime
    organisation: str
    role: Role

    @classmethod
    def made(cls, secret: Secret, member: MembershipRow) -> Self:
        return cls(
            token=secret.text,
            expires_at=secret.row.expires_at,
            organisation=member.organisation.name,
            role=member.role,
        )


class Me(Answer):
    """The caller, as the service sees it."""

    name: str
    organisation_id: str
    role: Role
    permissions: list[Permission]


class PasswordChange(Frozen):
    old: SecretStr = Field(default=SecretStr(""), max_length=200)
    """The present one; empty for who has none yet."""
    new: Password


class Organisation(Answer):
    id: str
    name: str
    created_at: datetime


class OrganisationChange(Frozen):
    name: Name = Field(examples=["Example Bank"])


class UserCreate(Frozen):
    """A person who is to work for the organisation."""

    email: Email = Field(examples=["anna@bank.example"])
    name: Name = Field(examples=["Anna Example"])
    role: Role
    password: Password | None = None
    """The first one, for people who do not sign in elsewhere. It opens this organisation and no other."""


class UserChange(Frozen):
    role: Role | None = Field(default=None, examples=["reviewer"])
    active: bool | None = None
    """False takes all access away; what the person did stays."""


class User(Answer):
    """A member of the organisation."""

    id: str
    email: str
    name: str
    role: Role
    active: bool
    created_at: datetime

    @classmethod
    def of(cls, row: object) -> Self:
        assert isinstance(row, MembershipRow)  # noqa: S101 - typed as wide as in all answers
        user = row.user
        return cls(
            id=user.id, email=user.email, name=row.name, role=row.role, active=row.active, created_at=user.created_at
        )


class TokenCreate(Frozen):
    """A service's token with a role of its own, or with neither role nor user the caller's own."""

    name: Name = Field(examples=["nightly build"])
    role: Role | None = None
    """What it may do; null for a token with the caller's own rights."""
    scopes: Annotated[tuple[Permission, ...], Field(min_length=1)] | None = None
    """Limits it to these of the role's permissions."""
    days: Annotated[int, Field(ge=1, le=LONGEST_DAYS)] = 90
    """How long it lasts."""


class Token(Answer):
    id: str
    name: str
    role: Role | None
    """Null for a person's token: it has the person's rights."""
    user_id: str | None
    scopes: list[Permission] | None
    created_by: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    used_at: datetime | None
    """When it was last used, to five minutes."""


class NewToken(Token):
    """A token as it was made, with its text, which is shown this once."""

    token: str

    @classmethod
    def made(cls, secret: Secret) -> Self:
        return cls(**Token.of(secret.row).model_dump(), token=secret.text)
