"""Organisations, the people in them, and the tokens that act for them."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column, relationship

from audit_service.db.base import Base, Id, Identified, Owned, Timestamp, choice
from audit_service.domain.roles import Role


class OrganisationRow(Identified, Base):
    """A tenant: whose rows nobody else sees."""

    __tablename__ = "organisations"

    name: Mapped[str] = mapped_column(Text, unique=True)


class UserRow(Identified, Base):
    """A person. One person may work for several organisations, so the row is of none."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("oidc_issuer", "oidc_subject"),)

    email: Mapped[str] = mapped_column(Text, unique=True)
    """In lower case."""
    oidc_issuer: Mapped[str | None] = mapped_column(Text)
    oidc_subject: Mapped[str | None] = mapped_column(Text)
    """Who the issuer says it is; written at the first sign-in, so that a later owner of the address is another."""


class MembershipRow(Owned, Base):
    """What a person may do in an organisation, and the password that opens this organisation and no other.

    An administrator chooses the first password of whom they add, and anybody's address can be added. Were a
    password the account's, the administrator of one organisation could choose what opens another.
    """

    __tablename__ = "memberships"

    organisation_id: Mapped[str] = mapped_column(Id, ForeignKey("organisations.id"), primary_key=True)
    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    """Of the person, as this organisation writes it."""
    password_hash: Mapped[str | None] = mapped_column(Text, deferred=True)
    """argon2id; none for who signs in elsewhere."""
    role: Mapped[Role] = mapped_column(choice(Role))
    active: Mapped[bool] = mapped_column(default=True)
    """False: the person may do nothing here any more. The row stays, as what the person did stays."""

    user: Mapped[UserRow] = relationship(lazy="joined", innerjoin=True)
    organisation: Mapped[OrganisationRow] = relationship(lazy="joined", innerjoin=True)


class TokenRow(Identified, Owned, Base):
    """A secret that acts for a person, or for itself with a role of its own."""

    __tablename__ = "tokens"
    __table_args__ = (CheckConstraint("(user_id IS NULL) <> (role IS NULL)", name="one_source_of_rights"),)

    name: Mapped[str] = mapped_column(Text)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the secret, which is random and long: there is nothing to guess."""
    user_id: Mapped[str | None] = mapped_column(Id, ForeignKey("users.id"))
    """Whose rights it has, as they are when it is used."""
    role: Mapped[Role | None] = mapped_column(choice(Role))
    """The rights of a service's token."""
    scopes: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """The permissions it is limited to; none limits nothing."""
    session: Mapped[bool] = mapped_column(default=False)
    """Made by signing in."""
    created_by: Mapped[str] = mapped_column(Text)
    maker_id: Mapped[str | None] = mapped_column(Id, ForeignKey("users.id"))
    """Who made it, also through another token: it ends with that person's access. None for the operator's."""
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
    revoked_at: Mapped[datetime | None] = mapped_column(Timestamp)
    used_at: Mapped[datetime | None] = mapped_column(Timestamp)
    """When it was last used, to some minutes."""


class SignInRow(Base):
    """A sign-in with an OpenID provider between its two redirects; a row is read once and then gone."""

    __tablename__ = "sign_ins"

    state_digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    """SHA-256 of the state that the browser brings back."""
    nonce: Mapped[str] = mapped_column(Text)
    verifier: Mapped[str] = mapped_column(Text)
    """Of PKCE (RFC 7636)."""
    organisation: Mapped[str | None] = mapped_column(Text)
    """The name of the organisation that was asked for."""
    expires_at: Mapped[datetime] = mapped_column(Timestamp)
