"""Datasheets: what the words of a behavior or a pair set are, whose facts they rest on, and where they end.

After Gebru et al. 2021 (Datasheets for Datasets), cut down to what a reader of an audit asks.
"""

from enum import StrEnum
from typing import Self

from pydantic import Field, FiniteFloat, model_validator

from audit_service.domain.manifest import Frozen


class Signal(StrEnum):
    """How the cues tell the protected attribute."""

    EXPLICIT = "explicit"
    NAME = "name"
    PRONOUN = "pronoun"
    """Also a form of address."""
    PROXY = "proxy"
    """Something that goes with the attribute, such as a postal code."""


class Standing(StrEnum):
    """How sure it is that the source says what the words rest on."""

    CONFIRMED = "confirmed"
    """It was looked up, and ``seen`` tells what was found."""
    UNCONFIRMED = "unconfirmed"
    """It is cited and was not looked up: check it before resting anything on it."""
    OWN = "own"
    """No fact is claimed: the author wrote or chose it."""


class Words(Frozen):
    """Some of the words, and what they rest on."""

    what: str = Field(min_length=1)
    rests_on: str = Field(min_length=1)
    """The source of the fact, or who wrote them."""
    standing: Standing = Standing.UNCONFIRMED
    seen: str | None = Field(default=None, min_length=1)
    """What was found where, with its numbers."""
    figures: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Cue → its published figure."""
    unit: str | None = Field(default=None, min_length=1)
    """What the figures count: "per cent of bearers", say."""

    @model_validator(mode="after")
    def _says_what_was_seen(self) -> Self:
        if (self.standing is Standing.CONFIRMED) != (self.seen is not None):
            raise ValueError("words that are confirmed, and no others, tell in `seen` what was found where")
        if bool(self.figures) != (self.unit is not None):
            raise ValueError("figures and their unit go together")
        return self


class Datasheet(Frozen):
    titles: dict[str, str] = Field(min_length=1)
    """Language ("en", "zh-Hant") → title."""
    signal: Signal
    language: str
    """Of the prompts."""
    purpose: str
    words: tuple[Words, ...] = Field(min_length=1)
    neutral: str
    """What the placebo pairs vary, and what else holds the rest equal."""
    limits: tuple[str, ...] = Field(min_length=1)
    """What a finding with these words does not show."""
