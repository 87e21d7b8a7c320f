"""Calls about people: who may do what, who accepts what, and who is shown what."""

from collections.abc import AsyncGenerator

from audit_service.approvals.schemas import ApprovalRecord, DecisionMade, Submission
from audit_service.client._asking import Asking, new_key
from audit_service.client._modes import call, stream
from audit_service.domain.roles import Role
from audit_service.identity.schemas import Me, NewToken, Token, TokenCreate, User, UserChange
from audit_service.sharing.schemas import NewShare, Share, ShareCreate


class PeopleCalls(Asking):
    """Users, tokens, approvals and links."""

    @call
    async def me(self) -> Me:
        """Who the service takes this client for, and what it may do."""
        return await self._get("/v1/me", Me)

    @call
    async def add_user(self, *, email: str, name: str, role: Role, password: str | None = None) -> User:
        """Let a person work for the organisation."""
        body = {"email": email, "name": name, "role": role.value, "password": password}
        answer = await self._sender.ask("POST", "/v1/users", json=body, headers=new_key())
        return User.model_validate_json(answer.content)

    @stream
    async def users(self) -> AsyncGenerator[User, None]:
        """The organisation's people; pages are fetched as they are reached."""
        async for user in self._all("/v1/users", User):
            yield user

    @call
    async def change_user(self, user_id: str, wanted: UserChange) -> User:
        """Give a person another role, or take the access away or back; what ``wanted`` was not given stays."""
        return await self._change(f"/v1/users/{user_id}", wanted, User)

    @call
    async def issue_token(self, wanted: TokenCreate) -> NewToken:
        """A token with its text, which cannot be had again."""
        return await self._create("/v1/tokens", wanted, NewToken)

    @stream
    async def tokens(self) -> AsyncGenerator[Token, None]:
        """The organisation's tokens without their texts; pages are fetched as they are reached."""
        async for token in self._all("/v1/tokens", Token):
            yield token

    @call
    async def revoke_token(self, token_id: str) -> Token:
        return await self._end(f"/v1/tokens/{token_id}", Token)

    @call
    async def submit(self, wanted: Submission) -> ApprovalRecord:
        """Put a record before a reviewer, and sign for its digest."""
        return await self._create("/v1/approvals", wanted, ApprovalRecord)

    @call
    async def decide(self, approval_id: str, made: DecisionMade) -> ApprovalRecord:
        """Decide on a record that somebody else prepared."""
        return await self._create(f"/v1/approvals/{approval_id}/decision", made, ApprovalRecord)

    @call
    async def approval(self, approval_id: str) -> ApprovalRecord:
        """A record, and what was decided on it."""
        return await self._get(f"/v1/approvals/{approval_id}", ApprovalRecord)

    @stream
    async def approvals(
        self, *, run_id: str | None = None, state: str | None = None
    ) -> AsyncGenerator[ApprovalRecord, None]:
        """What was put before reviewers, newest first; pages are fetched as they are reached."""
        async for record in self._all("/v1/approvals", ApprovalRecord, run_id=run_id, state=state):
            yield record

    @call
    async def share(self, run_id: str, wanted: ShareCreate) -> NewShare:
        """A link to the run's evidence; its path cannot be had again."""
        return await self._create(f"/v1/runs/{run_id}/shares", wanted, NewShare)

    @stream
    async def shares(self, *, run_id: str | None = None) -> AsyncGenerator[Share, None]:
        """The links without their secrets, newest first; pages are fetched as they are reached."""
        async for share in self._all("/v1/shares", Share, run_id=run_id):
            yield share

    @stream
    async def export_events(self) -> AsyncGenerator[bytes, None]:
        """The organisation's whole event log, one entry a line, piece by piece."""
        async for piece in self._download("/v1/events/export"):
            yield piece

    @call
    async def revoke_share(self, share_id: str) -> Share:
        return await self._end(f"/v1/shares/{share_id}", Share)
