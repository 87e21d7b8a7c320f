"""Tasks whose mechanism is looked for edge by edge: pairs of prompts from templates, each pair with answers of its own.

An audited decision has one set of answers, which is why a ``Pair`` has none and a behavior has them once. In the tasks
of the literature the answers differ from pair to pair (the name that comes next, say); such tasks are research, are not
judged, and so have a file of their own (examples/ioi.yaml).
"""

import json
from string import Formatter
from typing import NamedTuple, Self

import numpy as np
import yaml
from pydantic import Field, ValidationError, model_validator

from audit_service.domain.manifest import Frozen
from audit_service.domain.pairfiles import plain_problems
from audit_service.errors import InvalidInput


class Wording(Frozen):
    """The two prompts of a template, with {slots}; they must have equally many tokens once the slots are filled."""

    clean: str = Field(min_length=1)
    corrupt: str = Field(min_length=1)


class CircuitTask(Frozen):
    """What is asked of the model, and the answers that tell whether it can."""

    title: str
    source: str
    """Where the task is described."""
    model: str = "demo"
    """A model folder, or "demo"."""
    words: dict[str, tuple[str, ...]]
    """Lists that slots are filled from."""
    slots: dict[str, str]
    """Slot → its list. Slots of one list never get the same word."""
    templates: dict[str, Wording] = Field(min_length=1)
    favorable: tuple[str, ...] = Field(min_length=1)
    """Answers, with {slots}, that the clean prompt calls for."""
    unfavorable: tuple[str, ...] = Field(min_length=1)
    """Answers that the corrupt prompt calls for."""
    pairs: int = Field(default=8, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _slots_can_be_filled(self) -> Self:
        texts = [text for wording in self.templates.values() for text in (wording.clean, wording.corrupt)]
        used = {field for text in (*texts, *self.favorable, *self.unfavorable) for field in _fields(text)}
        if missing := sorted(used - set(self.slots)):
            raise ValueError(f"slots {missing} are used, but not declared")
        for name, words in self.words.items():
            needed = sum(of == name for of in self.slots.values())
            if len(set(words)) != len(words) or len(words) < needed:
                raise ValueError(f"list {name!r} needs {needed} different words, each once")
        if unknown := sorted(set(self.slots.values()) - set(self.words)):
            raise ValueError(f"lists {unknown} are not declared")
        return self


class Mark(NamedTuple):
    """Where a slot's word stands in the clean prompt."""

    role: str
    """The slot and, from its second time on, which time it is: "A", "B", "B again"."""
    start: int
    end: int


class TaskPair(NamedTuple):
    """Two prompts and their answers."""

    template: str
    clean: str
    corrupt: str
    favorable: tuple[str, ...]
    unfavorable: tuple[str, ...]
    marks: tuple[Mark, ...]


def task_pairs(task: CircuitTask) -> list[TaskPair]:
    """The task's pairs, templates in turn, words drawn by the seed."""
    rng = np.random.default_rng(task.seed)
    names = list(task.templates)
    return [_pair(task, names[number % len(names)], _drawn(task, rng)) for number in range(task.pairs)]


def parse_circuit_task(text: str, *, name: str) -> CircuitTask:
    """Read the task that a YAML text describes; InvalidInput names every field that is wrong."""
    remedy = "Correct what is named; examples/ioi.yaml shows each field."
    try:
        return CircuitTask.model_validate_json(json.dumps(yaml.safe_load(text)))
    except ValidationError as error:
        raise InvalidInput(f"{name} describes no task.", remedy=remedy, details=plain_problems(error)) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"{name} is not YAML of texts, numbers and lists: {error}", remedy=remedy) from error


def _fields(text: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(text) if field is not None]


def _drawn(task: CircuitTask, rng: np.random.Generator) -> dict[str, str]:
    filled: dict[str, str] = {}
    for name, words in task.words.items():
        slots = [slot for slot, of in task.slots.items() if of == name]
        filled |= zip(slots, (words[number] for number in rng.permutation(len(words))), strict=False)
    return filled


def _pair(task: CircuitTask, template: str, filled: dict[str, str]) -> TaskPair:
    wording = task.templates[template]
    favorable, unfavorable = (
        tuple(text.format_map(filled) for text in side) for side in (task.favorable, task.unfavorable)
    )
    prompts = wording.clean.format_map(filled), wording.corrupt.format_map(filled)
    return TaskPair(template, *prompts, favorable, unfavorable, _marks(wording.clean, filled))


def _marks(text: str, filled: dict[str, str]) -> tuple[Mark, ...]:
    marks: list[Mark] = []
    at = 0
    for literal, field, _, _ in Formatter().parse(text):
        at += len(literal)
        if field is not None:
            times = sum(mark.role.split()[0] == field for mark in marks)
            role = field + " again" * times
            marks.append(Mark(role, at, at + len(filled[field])))
            at = marks[-1].end
    return tuple(marks)
