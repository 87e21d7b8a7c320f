"""Who asks: the one value that the rest of the service knows a caller by."""

from dataclasses import dataclass

from audit_service.db.handles import Acting
from audit_service.domain.roles import Permission, Role
from audit_service.errors import Forbidden


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose token was checked."""

    organisation_id: str
    name: str
    """ "user:<e-mail>" or "token:<name>", as it stands in the event log."""
    role: Role
    permissions: frozenset[Permission]
    token_id: str
    user_id: str | None
    """None for a service's own token."""
    person_id: str | None
    """Who answers for what the caller does: the person, or who made the service's token; none for the operator's."""
    address: str | None
    """Where the request came from."""

    @property
    def acting(self) -> Acting:
        return Acting(
            self.organisation_id,
            user_id=self.user_id,
            person_id=self.person_id,
            token_id=self.token_id,
            address=self.address,
        )

    def require(self, permission: Permission) -> None:
        """Raise Forbidden unless the caller has the permission."""
        if permission not in self.permissions:
            raise Forbidden(
                f"{self.name} may not do this: it needs the permission {permission!r}.",
                remedy=f"Ask an administrator; a token with the role {self.role!r} does not have it"
                " or was limited to others.",
            )

    def require_person(self) -> str:
        """The person's id. Raise Forbidden for a service's token: only people put their name to something."""
        if self.user_id is None:
            raise Forbidden("A service's token signs nothing.", remedy="Sign in as a person.")
        return self.user_id
