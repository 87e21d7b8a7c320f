"""Preview a pair set on a model: how the prompts fall into tokens, and whether the model answers with the labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from audit_service.db.tables import BehaviorVersionRow, ModelVersionRow, PairSetRow, PreviewRow
from audit_service.dispatch import Task
from audit_service.domain.behaviors import Behavior
from audit_service.domain.decided import Reading
from audit_service.domain.labels import LabelTokens
from audit_service.domain.layouts import Layout, layout_of
from audit_service.domain.lifecycle import PreviewState
from audit_service.domain.pairs import Pair
from audit_service.domain.preview import (
    FormPreview,
    PairPreview,
    Preview,
    SegmentTokens,
    gap_spread,
    sample,
)
from audit_service.domain.protocol import saturated
from audit_service.domain.shards import PAIRS_PER_DECISION_SHARD
from audit_service.errors import AuditError
from audit_service.pairsets import repository as pairsets
from workers.calibrating import MEASUREMENTS, calibrate_once
from workers.engine.costs import reading_of
from workers.engine.decisions import measure_decisions
from workers.engine.subject import Subject
from workers.engine.tokens import EncodedPair, labels_of, prompts_of
from workers.runtime import Runtime, runtime
from workers.tasks.base import task

PAIRS_PER_FORM = 32
EXAMPLES_PER_FORM = 3


@task(Task.PREVIEW)
def preview(preview_id: str) -> None:
    """Compute the preview, or write down why it cannot be had."""
    worker = runtime().of(PreviewRow, preview_id)
    try:
        content = _compute(worker, preview_id)
    except AuditError as error:
        _save(worker, preview_id, PreviewState.FAILED, reason=str(error))
    else:
        _save(worker, preview_id, PreviewState.DONE, content=content)


def preview_pairs(subject: Subject, behavior: Behavior, pairs: tuple[Pair, ...]) -> Preview:
    """Encode and decide a sample of each form."""
    labels = labels_of(subject, behavior.labels)
    reading = reading_of(subject, labels)
    forms, examples = [], []
    for form, members in sample(pairs, per_form=PAIRS_PER_FORM).items():
        encoded = [prompts_of(subject, pair) for pair in members]
        seen = _decided(subject, encoded, labels)
        unequal = float(np.mean([not pair.equal_spans for pair in encoded]))
        examples += seen[:EXAMPLES_PER_FORM]
        layout = _layout(subject, pairs, form, reading)
        forms.append(_form(form, members, seen, layout, unequal=unequal, min_coverage=behavior.min_coverage))
    tokens = {"favorable": labels.favorable, "unfavorable": labels.unfavorable}
    return Preview(label_tokens=tokens, forms=tuple(forms), examples=tuple(examples))


def _layout(subject: Subject, pairs: Sequence[Pair], form: str, reading: Reading) -> Layout:
    """Of as many pairs as are decided together: what is shared among them tells what that costs."""
    members = [pair for pair in pairs if pair.form == form][:PAIRS_PER_DECISION_SHARD]
    encoded = [prompts_of(subject, pair) for pair in members]
    return layout_of([(pair.clean, pair.corrupt) for pair in encoded], reading)


def _decided(subject: Subject, encoded: Sequence[EncodedPair], labels: LabelTokens) -> list[PairPreview]:
    found = measure_decisions(subject, [ids for pair in encoded for ids in (pair.clean_ids, pair.corrupt_ids)], labels)
    d = found.d.reshape(-1, 2).tolist()
    coverage = (np.exp(found.log_p_favorable) + np.exp(found.log_p_unfavorable)).reshape(-1, 2).tolist()
    return [
        PairPreview(
            pair_id=pair.id,
            segments=_segments(subject.tokenizer, pair),
            d=(d[row][0], d[row][1]),
            coverage=(coverage[row][0], coverage[row][1]),
        )
        for row, pair in enumerate(encoded)
    ]


def _segments(tokenizer: PreTrainedTokenizerBase, pair: EncodedPair) -> tuple[SegmentTokens, ...]:
    sides = [
        {name: tuple(str(tokenizer.decode([side.ids[p]])) for p in span) for name, span in side.spans.items()}
        for side in (pair.clean, pair.corrupt)
    ]
    return tuple(SegmentTokens(segment=name, reference=sides[0][name], comparison=sides[1][name]) for name in sides[0])


def _form(
    form: str,
    pairs: Sequence[Pair],
    seen: Sequence[PairPreview],
    layout: Layout,
    *,
    unequal: float,
    min_coverage: float,
) -> FormPreview:
    d = np.array([pair.d for pair in seen])
    coverage = np.array([pair.coverage for pair in seen])
    return FormPreview(
        form=form,
        pairs=len(seen),
        unequal_spans=unequal,
        coverage_mean=float(coverage.mean()),
        coverage_min=float(coverage.min()),
        below_min_coverage=float((coverage < min_coverage).mean()),
        saturated=saturated(d),
        gap_spread=gap_spread(pairs, d),
        layout=layout,
    )


def _compute(worker: Runtime, preview_id: str) -> Preview:
    with worker.database.reading() as session:
        row = session.get_one(PreviewRow, preview_id)
        model = session.get_one(ModelVersionRow, row.model_version_id)
        behavior = session.get_one(BehaviorVersionRow, row.behavior_version_id).content
        pairs = pairsets.load(session, session.get_one(PairSetRow, row.pair_set_id)).pairs
    subject = worker.models.get(model.identity, Path(model.path))
    calibrate_once(worker, subject, behavior, pairs[0], model_version_id=model.id, times=MEASUREMENTS)
    return preview_pairs(subject, behavior, pairs)


def _save(
    worker: Runtime,
    preview_id: str,
    state: PreviewState,
    *,
    content: Preview | None = None,
    reason: str | None = None,
) -> None:
    with worker.database.writing() as session:
        row = session.get_one(PreviewRow, preview_id)
        row.state, row.reason = state, reason
        row.content = content
