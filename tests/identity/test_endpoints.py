from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, update

from audit_service.db.handles import Database
from audit_service.db.tables import MembershipRow, TokenRow, UserRow
from audit_service.identity import bootstrap
from audit_service.identity.bearer import Bearer
from audit_service.identity.bootstrap import FIRST_ORGANISATION
from tests.identity.made import PASSWORD, add_user, issue, sign_in
from tests.service import bearer


def me(api: TestClient, token: str) -> Any:
    return api.get("/v1/me", headers=bearer(token))


class TestTokens:
    def test_a_request_without_a_token_is_told_how_to_get_one(self, app: FastAPI) -> None:
        with TestClient(app) as stranger:
            answer = stranger.get("/v1/models")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "POST /v1/sessions" in answer.json()["remedy"]

    def test_a_token_is_kept_as_a_digest_and_shown_once(self, api: TestClient, database: Database) -> None:
        made = issue(api, role="auditor")
        assert me(api, made["token"]).json()["name"] == "token:build"
        listed = api.get("/v1/tokens").json()["items"]
        assert [token["name"] for token in listed] == ["build", "administrator"]
        assert all("token" not in token for token in listed)
        with database.reading() as session:
            row = session.get_one(TokenRow, made["id"])
        read = Bearer.read("audit", made["token"])
        assert read is not None
        assert read.secret not in row.digest
        assert read.fits(row.digest)

    @pytest.mark.parametrize("change", ["secret", "id", "organisation", "kind", "cut"])
    def test_a_token_that_is_changed_anywhere_is_refused(self, api: TestClient, token: str, change: str) -> None:
        read = Bearer.read("audit", token)
        assert read is not None
        other = Bearer.issue("audit", organisation_id=FIRST_ORGANISATION, id=read.id).text
        wrong = {
            "secret": other,
            "id": token[:40] + ("A" if token[40] != "A" else "B") + token[41:],
            "organisation": token[:10] + ("A" if token[10] != "A" else "B") + token[11:],
            "kind": token.replace("audit_", "share_"),
            "cut": token[:-4],
        }
        assert me(api, wrong[change]).status_code == 401

    def test_a_revoked_token_is_refused_from_then_on(self, api: TestClient) -> None:
        made = issue(api, role="analyst")
        assert me(api, made["token"]).status_code == 200
        assert api.delete(f"/v1/tokens/{made['id']}").json()["revoked_at"] is not None
        assert "revoked" in me(api, made["token"]).json()["detail"]

    def test_an_expired_token_is_refused(self, api: TestClient, database: Database) -> None:
        made = issue(api, role="analyst", days=1)
        with database.writing() as session:
            past = datetime.now(UTC) - timedelta(seconds=1)
            session.execute(update(TokenRow).where(TokenRow.id == made["id"]).values(expires_at=past))
        assert "expired" in me(api, made["token"]).json()["detail"]

    def test_scopes_limit_a_role_and_never_widen_it(self, api: TestClient) -> None:
        made = issue(api, role="admin", scopes=["read"])
        assert me(api, made["token"]).status_code == 403
        assert api.get("/v1/models", headers=bearer(made["token"])).status_code == 200
        wide = api.post("/v1/tokens", json={"name": "x", "role": "auditor", "scopes": ["administer"]})
        assert wide.status_code == 422
        assert "log, read, self" in wide.json()["remedy"]

    def test_a_limited_token_makes_no_token_that_goes_beyond_it(self, api: TestClient) -> None:
        user = add_user(api, "anna@bank.example", "admin")
        whole = bearer(sign_in(api, user["email"]).json()["token"])
        limited = {"name": "limited", "scopes": ["administer", "read"]}
        narrow = bearer(api.post("/v1/tokens", json=limited, headers=whole).json()["token"])
        again = api.post("/v1/tokens", json={"name": "again"}, headers=narrow).json()
        assert again["scopes"] == ["administer", "read"]
        wider = api.post("/v1/tokens", json={"name": "wider", "role": "admin"}, headers=narrow)
        assert (wider.status_code, "run" in wider.json()["detail"]) == (422, True)
        fits = {"name": "fits", "role": "analyst", "scopes": ["read"]}
        assert api.post("/v1/tokens", json=fits, headers=narrow).status_code == 201

    def test_a_persons_token_has_the_rights_that_the_person_has_now(self, api: TestClient) -> None:
        user = add_user(api, "anna@bank.example", "admin")
        theirs = sign_in(api, "anna@bank.example").json()["token"]
        own = api.post("/v1/tokens", json={"name": "mine"}, headers=bearer(theirs)).json()["token"]
        assert me(api, own).json()["role"] == "admin"
        path = f"/v1/users/{user['id']}"
        tag = api.get(path).headers["ETag"]
        api.patch(path, json={"role": "auditor"}, headers={"If-Match": tag})
        assert me(api, own).json()["role"] == "auditor"
        api.patch(path, json={"active": False}, headers={"If-Match": api.get(path).headers["ETag"]})
        assert "no access any more" in me(api, own).json()["detail"]

    def test_when_a_token_was_used_is_written_down(self, api: TestClient) -> None:
        made = issue(api, role="auditor")
        me(api, made["token"])
        [listed] = [token for token in api.get("/v1/tokens").json()["items"] if token["id"] == made["id"]]
        assert listed["used_at"] is not None


class TestSigningIn:
    def test_a_person_signs_in_works_and_signs_out(self, api: TestClient) -> None:
        add_user(api, "anna@bank.example", "reviewer")
        answer = sign_in(api, "Anna@Bank.example")
        assert answer.status_code == 201
        session = answer.json()
        assert (session["organisation"], session["role"]) == ("first organisation", "reviewer")
        assert me(api, session["token"]).json()["name"] == "user:anna@bank.example"
        assert api.delete("/v1/sessions/current", headers=bearer(session["token"])).status_code == 204
        assert me(api, session["token"]).status_code == 401

    def test_an_unknown_address_and_a_wrong_password_are_not_told_apart(self, api: TestClient) -> None:
        add_user(api, "anna@bank.example", "reviewer")
        add_user(api, "sso@bank.example", "reviewer", password=None)
        answers = [
            sign_in(api, "anna@bank.example", "wrong"),
            sign_in(api, "nobody@bank.example", "wrong"),
            sign_in(api, "sso@bank.example", ""),
        ]
        assert [answer.status_code for answer in answers] == [401] * 3
        assert len({answer.text for answer in answers}) == 1

    def test_passwords_are_kept_as_argon2id(self, api: TestClient, app: FastAPI) -> None:
        add_user(api, "anna@bank.example", "reviewer")
        with app.state.database.reading() as session:
            query = select(MembershipRow.password_hash).join(UserRow).where(UserRow.email == "anna@bank.example")
            assert session.scalar(query).startswith("$argon2id$")

    def test_who_has_no_access_any_more_does_not_sign_in(self, api: TestClient) -> None:
        path = f"/v1/users/{add_user(api, 'anna@bank.example', 'analyst')['id']}"
        api.patch(path, json={"active": False}, headers={"If-Match": api.get(path).headers["ETag"]})
        assert sign_in(api, "anna@bank.example").status_code == 401

    def test_who_works_for_two_organisations_says_for_which(self, api: TestClient, app: FastAPI) -> None:
        bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=PASSWORD)
        add_user(api, "eva@other.example", "auditor")
        answer = sign_in(api, "eva@other.example")
        assert answer.status_code == 422
        assert {error["detail"] for error in answer.json()["errors"]} == {"first organisation", "other bank"}
        assert sign_in(api, "eva@other.example", organisation="other bank").json()["role"] == "admin"
        assert sign_in(api, "eva@other.example", organisation="first organisation").json()["role"] == "auditor"
        assert sign_in(api, "eva@other.example", organisation="third bank").status_code == 401

    def test_a_password_that_one_organisation_chose_opens_no_other(self, api: TestClient, app: FastAPI) -> None:
        chosen = "what the first bank's administrator knows"
        added = add_user(api, "eva@other.example", "auditor", password=chosen)
        bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=PASSWORD)
        assert sign_in(api, "eva@other.example", chosen, organisation="other bank").status_code == 401
        assert sign_in(api, "eva@other.example", chosen).json()["organisation"] == "first organisation"
        assert sign_in(api, "eva@other.example", PASSWORD).json()["organisation"] == "other bank"
        assert api.get(f"/v1/users/{added['id']}").json()["name"] == "eva@other.example"  # not what the other bank says

    def test_too_many_tries_are_refused_for_a_while(self, api: TestClient) -> None:
        answers = [sign_in(api, "anna@bank.example", "wrong") for _ in range(11)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60

    def test_the_own_password_is_changed_with_the_old_one(self, api: TestClient) -> None:
        add_user(api, "anna@bank.example", "analyst")
        mine = bearer(sign_in(api, "anna@bank.example").json()["token"])
        new = "an even longer secret"
        wrong = api.put("/v1/me/password", json={"old": "wrong", "new": new}, headers=mine)
        assert wrong.status_code == 403
        assert api.put("/v1/me/password", json={"old": PASSWORD, "new": "short"}, headers=mine).status_code == 422
        assert api.put("/v1/me/password", json={"old": PASSWORD, "new": new}, headers=mine).status_code == 204
        assert sign_in(api, "anna@bank.example").status_code == 401
        assert sign_in(api, "anna@bank.example", new).status_code == 201

    def test_another_password_ends_the_other_sign_ins_and_no_token_made_on_purpose(self, api: TestClient) -> None:
        add_user(api, "anna@bank.example", "admin")
        add_user(api, "bert@bank.example", "analyst")
        here, there = (sign_in(api, "anna@bank.example").json()["token"] for _ in range(2))
        berts = sign_in(api, "bert@bank.example").json()["token"]
        made = api.post("/v1/tokens", json={"name": "mine"}, headers=bearer(here)).json()["token"]
        body = {"old": PASSWORD, "new": "an even longer secret"}
        assert api.put("/v1/me/password", json=body, headers=bearer(here)).status_code == 204
        assert [me(api, one).status_code for one in (here, there, berts, made)] == [200, 401, 200, 200]

    def test_whoever_has_a_session_cannot_try_passwords_at_will(self, api: TestClient) -> None:
        add_user(api, "anna@bank.example", "analyst")
        mine = bearer(sign_in(api, "anna@bank.example").json()["token"])
        body = {"old": "wrong", "new": "an even longer secret"}
        tries = [api.put("/v1/me/password", json=body, headers=mine).status_code for _ in range(11)]
        assert tries == [403] * 10 + [429]


class TestChanges:
    def test_a_change_names_the_state_that_it_changes(self, api: TestClient) -> None:
        path = f"/v1/users/{add_user(api, 'anna@bank.example', 'analyst')['id']}"
        assert api.patch(path, json={"role": "auditor"}).status_code == 428
        tag = api.get(path).headers["ETag"]
        changed = api.patch(path, json={"role": "auditor"}, headers={"If-Match": tag})
        assert changed.json()["role"] == "auditor"
        assert changed.headers["ETag"] == api.get(path).headers["ETag"] != tag
        late = api.patch(path, json={"role": "admin"}, headers={"If-Match": tag})
        assert (late.status_code, api.get(path).json()["role"]) == (412, "auditor")

    def test_nobody_locks_themselves_out(self, api: TestClient) -> None:
        [admin] = api.get("/v1/users").json()["items"]
        path = f"/v1/users/{admin['id']}"
        answer = api.patch(path, json={"active": False}, headers={"If-Match": api.get(path).headers["ETag"]})
        assert answer.status_code == 409

    def test_an_organisation_is_renamed_and_names_are_unique(self, api: TestClient, app: FastAPI) -> None:
        bootstrap.add_organisation(app.state.database, "other bank", email="eva@other.example", password=None)
        path = "/v1/organisation"
        tag = {"If-Match": api.get(path).headers["ETag"]}
        assert api.patch(path, json={"name": "other bank"}, headers=tag).status_code == 409
        assert api.patch(path, json={"name": "my bank"}, headers=tag).json()["name"] == "my bank"


def test_too_many_requests_of_one_token_are_refused(api: TestClient, app: FastAPI) -> None:
    app.state.settings = app.state.settings.model_copy(update={"api_limit": "3/minute"})
    answers = [api.get("/v1/me").status_code for _ in range(4)]
    assert answers == [200, 200, 200, 429]
