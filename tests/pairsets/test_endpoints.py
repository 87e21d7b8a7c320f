import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from audit_service import dispatch
from audit_service.db.handles import Database
from audit_service.db.tables import PairRow, PairSetRow, PreviewRow
from audit_service.domain.generation import generate
from audit_service.domain.lifecycle import PreviewState
from audit_service.domain.pairs import Pair
from audit_service.domain.preview import FormPreview, Preview
from audit_service.pairsets import repository
from tests.examples import loan_denial
from tests.service import Audit

HEADER = "attribute,reference_group,comparison_group,reference_prompt,comparison_prompt\n"
CSV = HEADER + "race,white,black,Emily asks.,Lakisha asks.\nrace,white,white,Emily asks.,Anne asks.\n"


def upload(api: TestClient, content: str | bytes, *, kind: str = "csv", name: str = "mine") -> Any:
    headers = {"Content-Type": "application/json" if kind == "json" else "text/csv"}
    query = {"name": name, "format": kind}
    return api.post("/v1/pair-sets/upload", params=query, content=content, headers=headers)


def stored(database: Database) -> tuple[int, int]:
    with database.reading() as session:
        sets, pairs = (session.scalar(select(func.count()).select_from(row)) for row in (PairSetRow, PairRow))
        return sets or 0, pairs or 0


def test_generated_pairs_are_those_of_the_behavior_in_their_order(
    api: TestClient, audit: Audit, database: Database
) -> None:
    made = audit.pair_set()
    expected = generate(loan_denial().behavior)
    assert (made["digest"], made["count"]) == (expected.digest, len(expected.pairs))
    with database.reading() as session:
        row = session.get_one(PairSetRow, made["id"])
        assert repository.load(session, row) == expected
    assert audit.pair_set() == made


def test_pairs_are_paged_in_their_order(api: TestClient, audit: Audit) -> None:
    made = audit.pair_set()
    path, cursor, seen = f"/v1/pair-sets/{made['id']}/pairs", None, []
    while True:
        page = api.get(path, params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json()
        assert len(page["items"]) <= 100
        seen += [Pair.model_validate(pair, strict=False) for pair in page["items"]]
        if (cursor := page["next"]) is None:
            break
    assert tuple(seen) == generate(loan_denial().behavior).pairs


def test_a_csv_file_is_stored(api: TestClient) -> None:
    answer = upload(api, CSV)
    assert answer.status_code == 201
    assert answer.json()["count"] == 2
    assert upload(api, CSV).status_code == 200
    assert api.get("/v1/pair-sets").json()["items"] == [answer.json()]


@pytest.mark.parametrize("kind", ["json", "jsonl"])
def test_json_files_give_the_same_pairs_as_csv(api: TestClient, kind: str) -> None:
    row = (
        '{"attribute": "race", "reference_group": "white", "comparison_group": "black", '
        '"reference_prompt": "Emily asks.", "comparison_prompt": "Lakisha asks."}'
    )
    made = upload(api, f"[{row}]" if kind == "json" else row, kind=kind)
    assert made.status_code == 201
    [pair] = api.get(f"/v1/pair-sets/{made.json()['id']}/pairs").json()["items"]
    assert (pair["reference_cue"], pair["comparison_cue"]) == ("Emily", "Lakisha")


def test_bad_rows_are_named_by_number_and_nothing_is_stored(api: TestClient, database: Database) -> None:
    answer = upload(api, CSV + "race,white,black,same,same\n,white,black,a,b\n")
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "urn:audit-service:invalid-pairs"
    assert [found["detail"].partition(":")[0] for found in problem["errors"]] == ["row 4", "row 5"]
    assert stored(database) == (0, 0)


@pytest.mark.parametrize("content", ["", HEADER, b"\xff\xfe", "attribute\n"])
def test_a_file_without_pairs_is_refused(api: TestClient, database: Database, content: str | bytes) -> None:
    answer = upload(api, content)
    assert answer.status_code == 422
    assert answer.json()["remedy"]
    assert stored(database) == (0, 0)


def test_uploads_of_one_file_at_the_same_moment_make_one_set(api: TestClient) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: upload(api, CSV), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]


def test_a_file_that_is_sent_again_under_its_key_is_answered_again_and_another_one_is_refused(api: TestClient) -> None:
    def send(content: str) -> Any:
        query = {"name": "mine", "format": "csv"}
        return api.post("/v1/pair-sets/upload", params=query, content=content, headers={"Idempotency-Key": "k"})

    first, again, other = send(CSV), send(CSV), send(CSV.replace("Anne", "Allison"))
    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 409)
    assert again.json() == first.json()


def test_a_file_is_stored_with_the_digest_of_its_pairs_and_of_where_they_came_from(
    api: TestClient, database: Database
) -> None:
    provenance = {"data_set": "x", "file": "x", "sha256": "0" * 64, "rows": 2, "left_out": {"empty": 1}}
    provenance |= {"conversion": "x", "limits": [], "converter": "x"}
    pair = '{"attribute": "a", "reference_group": "w", "comparison_group": "b", '
    pair += '"reference_prompt": "王先生 — \\u0000", "comparison_prompt": "王小姐 — \\u0000"}'
    made = upload(api, "\n".join([json.dumps({"provenance": provenance}), pair]), kind="jsonl").json()
    with database.reading() as session:
        kept = repository.load(session, session.get_one(PairSetRow, made["id"]))
    assert kept.provenance is not None
    assert kept.provenance.left_out == {"empty": 1}
    assert kept.digest == made["digest"]


def test_a_set_that_is_not_there_is_404(api: TestClient) -> None:
    missing = "01936f5e-7c1a-7a3e-8f00-0242ac120002"
    for path in (f"pair-sets/{missing}", f"pair-sets/{missing}/pairs", f"previews/{missing}"):
        assert api.get(f"/v1/{path}").status_code == 404


class TestPreview:
    def ask(self, api: TestClient, audit: Audit, **changes: str) -> Any:
        body = {"model_version_id": audit.model()["id"], "behavior_version_id": audit.behavior()["id"]}
        return api.post(f"/v1/pair-sets/{audit.pair_set()['id']}/previews", json=body | changes)

    def finish(self, database: Database, preview_id: str, state: PreviewState, **changes: Any) -> None:
        with database.writing() as session:
            row = session.get_one(PreviewRow, preview_id)
            row.state = state
            for name, value in changes.items():
                setattr(row, name, value)

    def test_it_is_queued_for_a_worker_once(self, api: TestClient, audit: Audit) -> None:
        first = self.ask(api, audit)
        assert (first.status_code, first.json()["state"]) == (201, "queued")
        assert self.ask(api, audit).status_code == 200
        assert dispatch.waiting(dispatch.GPU) == 1

    def test_asking_at_the_same_moment_makes_one(self, api: TestClient, audit: Audit) -> None:
        audit.model(), audit.pair_set()
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: self.ask(api, audit), range(4)))
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
        assert dispatch.waiting(dispatch.GPU) == 1

    def test_what_the_worker_found_is_shown(self, api: TestClient, audit: Audit, database: Database) -> None:
        preview_id = self.ask(api, audit).json()["id"]
        form = FormPreview(
            form="raw",
            pairs=1,
            unequal_spans=0.5,
            coverage_mean=0.9,
            coverage_min=0.8,
            below_min_coverage=0.0,
            saturated=0.0,
        )
        found = Preview(label_tokens={"favorable": ((1, 2), (3,))}, forms=(form,), examples=())
        self.finish(database, preview_id, PreviewState.DONE, content=found)
        shown = api.get(f"/v1/previews/{preview_id}").json()
        assert shown["state"] == "done"
        assert Preview.model_validate(shown["content"], strict=False) == found

    def test_a_failed_one_is_computed_again_when_asked_for_again(
        self, api: TestClient, audit: Audit, database: Database
    ) -> None:
        preview_id = self.ask(api, audit).json()["id"]
        self.finish(database, preview_id, PreviewState.FAILED, reason="labels share a token")
        assert api.get(f"/v1/previews/{preview_id}").json()["reason"] == "labels share a token"
        again = self.ask(api, audit).json()
        assert (again["id"], again["state"], again["reason"]) == (preview_id, "queued", None)
        assert dispatch.waiting(dispatch.GPU) == 2

    def test_it_needs_a_model_that_is_there(self, api: TestClient, audit: Audit) -> None:
        assert self.ask(api, audit, model_version_id="01936f5e-7c1a-7a3e-8f00-0242ac120002").status_code == 404
