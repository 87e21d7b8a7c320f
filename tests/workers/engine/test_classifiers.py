"""A classifier goes the whole way: its pairs encoded, previewed, checked and traced."""

import numpy as np
import pytest

from audit_service.domain.behaviors import Labels
from audit_service.domain.plan import Corruption, Direction, Tracing
from audit_service.domain.sites import Site, SiteKind
from tests.examples import loan_denial
from tests.workers.engine import naive
from tests.workers.engine.models import tiny
from tests.workers.engine.words import pair, tokenizer
from workers.engine.loading import Subject
from workers.engine.positions import Exchange
from workers.engine.selfcheck import run_controls
from workers.engine.tokens import labels_of, prompts_of
from workers.engine.variants import Setting, trace_variant
from workers.tasks.preview import preview_pairs

LABELS = Labels(favorable=("approve",), unfavorable=("deny", "refer"))
SITES = [
    Site(SiteKind.RESID_PRE, 1, None, "cue"),
    Site(SiteKind.ATTN_OUT, 0, None, "after"),
    Site(SiteKind.Z, 2, 1, "all"),
    Site(SiteKind.MLP_OUT, 1, None, "decision"),
]


def _subject(variant: str) -> Subject:
    encoder = not variant.startswith("llama")
    words = tokenizer(beginning=encoder, end=encoder)
    subject = tiny(variant, tokenizer=words, vocabulary=len(words))
    subject.model.config.id2label = {0: "deny", 1: "approve", 2: "refer"}
    return subject


@pytest.mark.parametrize("variant", ["bert", "deberta-v2", "modernbert-mean", "llama-classes"])
@pytest.mark.parametrize("direction", Direction)
def test_a_pair_of_names_is_traced_through_a_classifier(variant: str, direction: Direction) -> None:
    subject = _subject(variant)
    encoded, labels = prompts_of(subject, pair()), labels_of(subject, LABELS)
    assert all(control.measured <= 1e-4 for control in run_controls(subject, encoded, labels))
    setting = Setting(direction, Corruption.PAIR, Tracing(), all_readouts=False)
    found = trace_variant(subject, encoded, [site.parts for site in SITES], setting, labels=labels)
    to, by = (encoded.corrupt, encoded.clean) if direction is Direction.DENOISE else (encoded.clean, encoded.corrupt)
    assert len(to.ids) != len(by.ids)
    for site, cell in zip(SITES, found.patched, strict=True):
        names = list(to.spans) if site.segment == "all" else [site.segment]
        rows = [
            (a, b) for name in names for a, b in zip(reversed(to.spans[name]), reversed(by.spans[name]), strict=False)
        ]
        exchange = Exchange(
            site.kind, site.layer, site.head, *(tuple(side) for side in zip(*sorted(rows), strict=True))
        )
        assert cell == pytest.approx(naive.patched_decision(subject, to.ids, by.ids, exchange, labels), abs=1e-4)
    own = [naive.decision(naive.logits(subject, ids), *labels) for ids in (encoded.clean_ids, encoded.corrupt_ids)]
    np.testing.assert_allclose([found.d_clean, found.d_corrupt], own, atol=1e-4)


def test_a_classifier_is_previewed_with_full_coverage() -> None:
    behavior = loan_denial().behavior.model_copy(update={"labels": LABELS})
    found = preview_pairs(_subject("bert"), behavior, (pair(),))
    assert found.label_tokens == {"favorable": ((1,),), "unfavorable": ((0,), (2,))}
    assert found.forms[0].coverage_min == pytest.approx(1, abs=1e-5)
    assert {part.segment for part in found.examples[0].segments} == {"before", "cue", "after", "decision"}
