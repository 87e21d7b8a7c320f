"""What work costs on this worker, measured once for each model, so that plans can say how long they take."""

import torch
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from audit_service.db.handles import ReadSession
from audit_service.db.tables import CalibrationRow
from audit_service.domain.behaviors import Behavior
from audit_service.domain.pairs import Pair
from workers.engine.costs import calibrate
from workers.engine.determinism import device_name, dtype_name
from workers.engine.progress import StopCheck, never_stop
from workers.engine.subject import Subject
from workers.engine.tokens import labels_of, prompts_of
from workers.runtime import Runtime


def calibrate_once(
    worker: Runtime,
    subject: Subject,
    behavior: Behavior,
    pair: Pair,
    *,
    model_version_id: str,
    should_stop: StopCheck = never_stop,
) -> None:
    """Calibrate on a pair's prompts, unless a worker like this one has done it for the model. Two at once harm none."""
    with worker.database.reading() as session:
        if _present(session, subject, model_version_id):
            return
    prompts, labels = prompts_of(subject, pair), labels_of(subject, behavior.labels)
    found = calibrate(subject, prompts.clean_ids, prompts.corrupt_ids, labels, should_stop=should_stop)
    with worker.database.writing() as session:
        row = {"device": found.device, "dtype": found.dtype, "threads": found.threads, "content": found}
        session.execute(
            insert(CalibrationRow).values(model_version_id=model_version_id, **row).on_conflict_do_nothing()
        )


def _present(session: ReadSession, subject: Subject, model_version_id: str) -> bool:
    query = select(CalibrationRow.id).where(
        CalibrationRow.model_version_id == model_version_id,
        CalibrationRow.device == device_name(subject),
        CalibrationRow.dtype == dtype_name(subject),
        CalibrationRow.threads == torch.get_num_threads(),
    )
    return session.scalar(query) is not None
