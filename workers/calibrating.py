"""What work costs on this worker, measured for each model, so that plans can say how long they take."""

import torch
from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert

from audit_service.db.tables import CalibrationRow
from audit_service.domain.behaviors import Behavior
from audit_service.domain.pairs import Pair
from workers.engine.costs import calibrate
from workers.engine.determinism import device_name, dtype_name
from workers.engine.progress import StopCheck, never_stop
from workers.engine.subject import Subject
from workers.engine.tokens import labels_of, prompts_of
from workers.runtime import Runtime

MEASUREMENTS = 3
"""How often previews measure again; a machine that was busy the first time is not taken for a slow one."""


def calibrate_once(
    worker: Runtime,
    subject: Subject,
    behavior: Behavior,
    pair: Pair,
    *,
    model_version_id: str,
    times: int = 1,
    should_stop: StopCheck = never_stop,
) -> None:
    """Calibrate on a pair's prompts, unless workers like this one have done it so many times for the model.

    The faster measurement is kept. Two at once harm none.
    """
    with worker.database.reading() as session:
        present = session.scalar(_like_this(subject, model_version_id))
    if present is not None and present.content.measured >= times:
        return
    prompts, labels = prompts_of(subject, pair), labels_of(subject, behavior.labels)
    found = calibrate(subject, prompts.clean_ids, prompts.corrupt_ids, labels, should_stop=should_stop)
    kept = found if present is None else present.content.with_another(found)
    with worker.database.writing() as session:
        row = {"device": found.device, "dtype": found.dtype, "threads": found.threads, "content": kept}
        adding = insert(CalibrationRow).values(model_version_id=model_version_id, **row)
        session.execute(
            adding.on_conflict_do_update(
                index_elements=["model_version_id", "device", "dtype", "threads"],
                set_={"content": adding.excluded.content},
            )
        )


def _like_this(subject: Subject, model_version_id: str) -> Select[CalibrationRow]:
    return select(CalibrationRow).where(
        CalibrationRow.model_version_id == model_version_id,
        CalibrationRow.device == device_name(subject),
        CalibrationRow.dtype == dtype_name(subject),
        CalibrationRow.threads == torch.get_num_threads(),
    )
