"""The words of the document in one language. Another language is one more file in report_templates/locales."""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

from babel.messages.pofile import read_po

from audit_service.domain.results import Sentence
from audit_service.domain.sentences import CATALOGUE
from audit_service.errors import InvalidInput
from workers.rendering.numbers import MINUS, NO_BREAK

TEMPLATES = Path(__file__).resolve().parents[2] / "report_templates"
LANGUAGES = ("en", "zh-Hant")
"""BCP 47 tags of the catalogues."""


_VOCABULARIES = {"unit": "unit", "direction": "direction", "verdict": "word.verdict"}
"""Value names of sentences whose values come from a fixed vocabulary."""
_ESTIMATOR = "estimator."
_HYPHEN_MINUS = re.compile(r"(?<![\w.])-(?=\d)")


class Catalogue:
    """Looks texts up by id. A missing id is an error: a report never prints an id or the wrong language."""

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language = language
        self.texts = MappingProxyType(dict(texts))

    def __call__(self, key: str, **values: str) -> str:
        """The text of ``key`` with its placeholders filled."""
        return self.texts[key].format_map(values)

    def has(self, key: str) -> bool:
        return key in self.texts

    def say(self, sentence: Sentence) -> str:
        """A sentence of the judge with its numbers, its words of art and its minus signs set."""
        values = {name: self._word(name, value) for name, value in sentence.values.items()}
        said = _HYPHEN_MINUS.sub(MINUS, self.texts[f"said.{sentence.id}"].format_map(values))
        return said.replace(" %", f"{NO_BREAK}%")

    def method(self, method: str) -> str:
        """An estimator in the language, part by part; what the catalogue does not know stays in the field's English."""
        said = (self._method_part(part) for part in method.split("; "))
        return self.texts["list.methods"].join(said).replace(" %", f"{NO_BREAK}%")

    def _method_part(self, part: str) -> str:
        for pattern, text in self._methods:
            if found := pattern.fullmatch(part):
                return text.format_map(found.groupdict())
        return part

    @cached_property
    def _methods(self) -> tuple[tuple[re.Pattern[str], str], ...]:
        """Estimators as patterns with their texts; entries named ``estimator.<English words>``."""
        named = [(key.removeprefix(_ESTIMATOR), text) for key, text in self.texts.items() if key.startswith(_ESTIMATOR)]
        return tuple((_pattern(words), text) for words, text in named)

    def join(self, parts: Iterable[str]) -> str:
        """An enumeration."""
        return self.texts["list.separator"].join(parts)

    def sentences(self, parts: Iterable[str]) -> str:
        """Sentences one after the other; empty ones take no room."""
        return self.texts["list.sentences"].join(part for part in parts if part)

    def _word(self, name: str, value: float | str) -> float | str:
        """Values that are words of ours are said in the language; names that users gave stay as they are."""
        key = f"{_VOCABULARIES[name]}.{value}" if name in _VOCABULARIES else ""
        return self.texts.get(key, value) if isinstance(value, str) else value


def _pattern(words: str) -> re.Pattern[str]:
    """English words whose {placeholders} stand for whatever is there."""
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(words)))


def read_catalogue(language: str) -> dict[str, str]:
    """The file's texts by id."""
    path = TEMPLATES / "locales" / f"{language.replace('-', '_')}.po"
    with path.open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file) if message.id}


@lru_cache
def catalogue(language: str) -> Catalogue:
    """The catalogue of a language.

    Raises InvalidInput for a language that has none.
    """
    if language not in LANGUAGES:
        raise InvalidInput(f"There is no report in {language!r}.", remedy=f"Choose one of {', '.join(LANGUAGES)}.")
    english = {f"said.{name}": text for name, text in CATALOGUE.items()} if language == "en" else {}
    return Catalogue(language, {**english, **read_catalogue(language)})
