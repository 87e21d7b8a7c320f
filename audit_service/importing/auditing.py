"""The audit file that goes with imported pairs: their groups, forms and answers, for its owner to fill in."""

import os
import re
from collections import Counter
from pathlib import Path

import yaml

from audit_service.domain.auditfile import AuditFile, ModelSource
from audit_service.domain.behaviors import Attribute, Behavior, Form, Pairing, Risk, Threshold
from audit_service.domain.plan import Judging
from audit_service.importing.converting import Imported
from audit_service.importing.formats import Format, Wrapping

HEADER = """\
# An audit of imported pairs. Fill in what stands in brackets, set your own threshold, and name your model.
# The prompts come from the pair file; the template and the profile below only name what varies in them.

"""


def audit_text(made: Imported, made_as: Format, wrapping: Wrapping, *, pair_file: Path, beside: Path) -> str:
    """A YAML text that is a valid audit as it stands."""
    attributes = tuple(
        _attribute(name, groups, number, made_as) for number, (name, groups) in enumerate(made.groups.items(), start=1)
    )
    name = re.sub(r"[^a-z0-9]+", "-", beside.stem.lower()).strip("-") or "imported"
    behavior = Behavior(
        name=name,
        title=f"[Title] ({made.provenance.file})",
        decision="[The decision in one sentence]",
        owner="[Owner]",
        risk=Risk(rating="[high, medium or low]", basis="[Why, with its source]"),
        attributes=attributes,
        templates={"imported": " ".join(f"{{{attribute.placeholder}}}" for attribute in attributes)},
        profiles={"imported": {}},
        forms=(Form(name=wrapping.form.value, kind=wrapping.form),),
        labels=made_as.labels,
        threshold=Threshold(gap_nats=0.2),
        pairing=Pairing(placebo_pairs_per_group=0),
    )
    audit = AuditFile(
        model=ModelSource(name="demo", version="1", path="demo"),
        behavior=behavior,
        judging=Judging(delta_nats=0.1),
        pairs=os.path.relpath(pair_file, beside.parent),
    )
    return HEADER + yaml.safe_dump(
        audit.model_dump(mode="json", exclude_defaults=True), allow_unicode=True, sort_keys=False, width=120
    )


def _attribute(name: str, groups: dict[str, list[str]], number: int, made_as: Format) -> Attribute:
    """Cues that stand for one group only; a group without any is told by its name."""
    bearers = Counter(cue for cues in groups.values() for cue in cues)
    told = {group: tuple(cue for cue in cues if bearers[cue] == 1) or (group,) for group, cues in groups.items()}
    return Attribute(
        name=name,
        signalled_by="as in the imported prompts",
        placeholder=f"cue_{number}",
        reference=next(iter(groups)),
        groups={group: {"any": cues} for group, cues in told.items()},
        source=f"Some of the cues of {made_as.data_set}",
    )
