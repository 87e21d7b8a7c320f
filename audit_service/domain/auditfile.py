"""The one file that describes an audit from model to verdict (examples/loan-denial.yaml)."""

import json
from typing import Self

import yaml
from pydantic import Field, ValidationError, model_validator

from audit_service.domain.behaviors import Behavior
from audit_service.domain.budget import Budget
from audit_service.domain.manifest import Frozen
from audit_service.domain.pairfiles import plain_problems
from audit_service.domain.plan import Judging, Tracing
from audit_service.domain.readings import BUILT_IN, DEFAULT, MetricDefinition
from audit_service.errors import InvalidInput

DEMO = "demo"
"""Model path that stands for the small model that ``audit-service demo-model`` prepares."""
DEMO_MODEL = "smollm2-135m-instruct"
"""Its folder among the models of the cache directory."""


class ModelSource(Frozen):
    """Which model is audited, and where its files lie."""

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    path: str = Field(min_length=1)
    """A folder, a hub name, or "demo"."""
    revision: str | None = None
    """Commit of a hub name; a branch or tag can move and is refused."""
    dtype: str = "float32"


class AuditFile(Frozen):
    """Everything that a run needs."""

    model: ModelSource
    behavior: Behavior
    tracing: Tracing = Tracing()
    judging: Judging
    metrics: tuple[str | MetricDefinition, ...] | None = None
    """Names of built-in metrics, or your own with their formulas; without them what a plan reads by itself."""
    pairs: str | None = None
    """A pair file beside this one (.csv, .jsonl, .json); without it pairs are generated from the templates."""
    budget: Budget | None = None
    """How much may be computed; what it does not pay for is left out, on record in the plan."""

    @model_validator(mode="after")
    def _metrics_are_known(self) -> Self:
        if unknown := sorted({name for name in self.metrics or () if isinstance(name, str)} - set(NAMED)):
            raise ValueError(f"no built-in metrics {unknown}; there are {sorted(NAMED)}")
        return self

    def definitions(self) -> tuple[MetricDefinition, ...]:
        """The metrics that the plan will name."""
        if self.metrics is None:
            return DEFAULT
        return tuple(NAMED[metric] if isinstance(metric, str) else metric for metric in self.metrics)


NAMED = {metric.name: metric for metric in BUILT_IN}


def parse_audit_file(text: str, *, name: str) -> AuditFile:
    """The audit that a YAML text describes.

    Raises:
        InvalidInput: it is not YAML, or fields are missing, unknown or wrong; each is named by its path.
    """
    try:
        content = yaml.safe_load(text)
        return AuditFile.model_validate_json(json.dumps(content))
    except TypeError as error:
        raise InvalidInput(
            f"{name} holds a value that is no text, number, list or table: {error}.",
            remedy="Put dates and the like in quotes.",
        ) from error
    except ValidationError as error:
        raise InvalidInput(
            f"{name} does not describe an audit.",
            remedy="Correct the fields named; examples/loan-denial.yaml shows each of them.",
            details=plain_problems(error),
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates and numbers that are none are ValueErrors
        raise InvalidInput(f"{name} is not YAML: {error}", remedy="Correct what is named.") from error
