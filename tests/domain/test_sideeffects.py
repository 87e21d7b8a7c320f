"""What a measure did to the reference group, against plain arithmetic on the pairs."""

from dataclasses import replace

import numpy as np
import pytest

from audit_service.domain.cells import COMPARISON, REFERENCE, DecisionTable
from audit_service.domain.results import Result
from audit_service.domain.sideeffects import reference_changes
from tests.workers.rendering.audits import Audit, decisions_of, make_audit


@pytest.fixture(scope="module")
def audit() -> Audit:
    return make_audit(layers=1, heads=1)


def shifted(table: DecisionTable, *, reference: float, comparison: float) -> DecisionTable:
    d = table.d.copy()
    d[:, REFERENCE] += np.float32(reference)
    d[:, COMPARISON] += np.float32(comparison)
    return replace(table, d=d)


def changes(audit: Audit, after: DecisionTable) -> dict[str, Result]:
    found = reference_changes(audit.evidence.plan, before=decisions_of(audit), after=after)
    return {result.key: result for result in found}


def test_they_are_the_mean_changes_of_the_reference_prompts(audit: Audit) -> None:
    before, rng = decisions_of(audit), np.random.default_rng(1)
    noise = rng.normal(-0.3, 0.2, before.d.shape).astype(np.float32)
    after = replace(before, d=before.d + noise)
    found, cut = changes(audit, after), audit.evidence.plan.behavior.cut
    for form in ("raw", "chat"):
        rows = [i for i, pair in enumerate(before.pairs) if pair.form == form and pair.kind == "contrast"]
        was, now = (table.d[rows, REFERENCE].astype(np.float64) for table in (before, after))
        nats = found[f"{form}.race.black.reference_change_nats"]
        rate = found[f"{form}.race.black.reference_rate_change"]
        assert nats.value == pytest.approx((now - was).mean(), rel=1e-6)
        assert rate.value == pytest.approx((now > cut).mean() - (was > cut).mean(), abs=1e-12)
        assert nats.low is not None
        assert nats.high is not None
        assert nats.low < nats.value < nats.high < 0
        assert nats.p_value is not None
        assert nats.p_value < 0.01


def test_a_measure_on_the_comparison_group_alone_leaves_the_reference_group_as_it_was(audit: Audit) -> None:
    found = changes(audit, shifted(decisions_of(audit), reference=0.0, comparison=0.5))
    assert [result.value for result in found.values()] == [0.0] * len(found)
    assert len(found) == 4
