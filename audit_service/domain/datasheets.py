"""Datasheets: what the words of a behavior or a pair set are, whose facts they rest on, and where they end.

After Gebru et al. 2021 (Datasheets for Datasets), cut down to what a reader of an audit asks.
"""

from enum import StrEnum

from pydantic import Field

from audit_service.domain.manifest import Frozen


class Signal(StrEnum):
    """How the cues tell the protected attribute."""

    EXPLICIT = "explicit"
    NAME = "name"
    PRONOUN = "pronoun"
    """Also a form of address."""
    PROXY = "proxy"
    """Something that goes with the attribute, such as a postal code."""


class Words(Frozen):
    """Some of the words, and what they rest on."""

    what: str = Field(min_length=1)
    rests_on: str = Field(min_length=1)
    """The source of the fact, or who wrote them."""


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
