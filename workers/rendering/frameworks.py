"""Reads the framework files that the report is laid against."""

from functools import lru_cache
from typing import Any, NamedTuple

import yaml

from audit_service.domain.frameworks import MappingFile
from workers.rendering.catalogue import TEMPLATES

NIST = "nist-ai-rmf-1.0"
ISO = "iso-iec-42001-2023"


class Titles(NamedTuple):
    english: str
    chinese: str

    def of(self, language: str) -> str:
        return self.chinese if language == "zh-Hant" else self.english


class Item(NamedTuple):
    id: str
    group: str
    """Id of the function or part that it is printed under."""
    titles: Titles


class Framework(NamedTuple):
    """A framework's items by id, and the titles of the groups they are printed in."""

    groups: dict[str, Titles]
    items: dict[str, Item]


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((TEMPLATES / "frameworks" / name).read_text(encoding="utf-8"))
    return loaded


def _titles(node: dict[str, Any]) -> Titles:
    return Titles(node["title"], node["title_zh_hant"])


@lru_cache
def mapping_file() -> MappingFile:
    """What supports what, and what every report must say."""
    loaded = _load("evidence_mapping.yaml")
    return MappingFile.model_validate({name: loaded[name] for name in MappingFile.model_fields}, strict=False)


@lru_cache
def nist() -> Framework:
    """The 72 subcategories by function."""
    functions = _load("nist_ai_rmf_1_0.yaml")["functions"]
    items = [
        Item(item["id"], function["id"], _titles(item))
        for function in functions
        for category in function["categories"]
        for item in category["subcategories"]
    ]
    return Framework({node["id"]: _titles(node) for node in functions}, {item.id: item for item in items})


CLAUSES, CONTROLS = "4-10", "A"


@lru_cache
def iso() -> Framework:
    """Clauses 4 to 10 at second level and the 38 controls of Annex A."""
    loaded = _load("iso_iec_42001_2023.yaml")
    items = [Item(item["id"], CLAUSES, _titles(item)) for node in loaded["clauses"] for item in node["subclauses"]]
    for node in loaded["annex_a"]:
        controls = [*node.get("controls", []), *(c for part in node.get("subgroups", []) for c in part["controls"])]
        items += [Item(item["id"], CONTROLS, _titles(item)) for item in controls]
    groups = {
        CLAUSES: Titles("Requirements on the management system", "對管理系統之要求"),
        CONTROLS: _titles(loaded["annexes"][0]),
    }
    return Framework(groups, {item.id: item for item in items})


EU, US = "eu_ai_act", "us_model_risk_validation_elements"


@lru_cache
def eu_ai_act() -> Framework:
    """Articles and Annex IV sections that the mapping judges."""
    loaded = _load("other.yaml")["eu_ai_act"]
    rows = [*loaded["annex_iv"]["sections"], *loaded["articles"]]
    return Framework({EU: _titles(loaded)}, {row["id"]: Item(row["id"], EU, _titles(row)) for row in rows})


@lru_cache
def us_validation() -> Framework:
    """The validation elements of US guidance on model risk."""
    loaded = _load("other.yaml")["us_model_risk"]
    rows = loaded["superseded"]["validation_elements"]
    return Framework({US: _titles(loaded["current"])}, {row["id"]: Item(row["id"], US, _titles(row)) for row in rows})


@lru_cache
def taiwan_principles() -> tuple[Titles, ...]:
    """The six core principles of the Financial Supervisory Commission."""
    return tuple(Titles(row["en"], row["zh"]) for row in _load("other.yaml")["taiwan_fsc"]["core_principles"])
