"""Examples for the OpenAPI document: each body and each answer of JSON has one, composed of what its fields show.

A field shows its own example, else its constant, its first choice, what a field of its name usually holds
(``WORDS``), or a value of its type. Values that are absent where all goes well are shown so (``ABSENT``).
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

ID = "01936f5e-7c1a-7a3e-8f00-0242ac120002"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
MOMENT = "2026-11-21T10:00:00Z"
JSON = "application/json"

WORDS: Mapping[str, Any] = MappingProxyType(
    {
        "id": ID, "digest": SHA256, "sha256": SHA256, "previous": SHA256, "predecessor": SHA256,
        "actor": "user:anna@bank.example", "asked_by": "user:anna@bank.example", "created_by": "user:anna@bank.example",
        "preparer": "user:anna@bank.example", "person": "user:anna@bank.example",
        "reviewer": "user:rita@bank.example", "preparer_role": "analyst", "reviewer_role": "reviewer",
        "email": "anna@bank.example", "owner": "Head of consumer credit", "role": "analyst",
        "name": "credit-assistant", "model": "credit-assistant", "version": "2026-11",
        "behavior": "loan-denial", "organisation": "Example Bank", "schedule": "loan denial, quarterly",
        "path": "/models/credit-assistant-2026-11", "architecture": "LlamaForCausalLM", "dtype": "float32",
        "hub_name": "organisation/model", "hub_revision": "0123456789abcdef0123456789abcdef01234567",
        "address": "https://example.org/hooks/audit", "language": "en", "key": "raw.race.black.gap.d",
        "form": "raw", "unit": "nats", "attribute": "race", "signalled_by": "first name", "placeholder": "name",
        "reference": "white", "reference_group": "white", "comparison_group": "black",
        "reference_cue": "Emily", "comparison_cue": "Lakisha", "profile": "strong", "template": "letter",
        "cluster": "letter|Emily~Lakisha", "pair_id": "raw.race.letter.strong.Emily~Lakisha",
        "shard_key": "raw/decisions/0", "site": "resid.12.cue", "segment": "cue", "scope": "behavior",
        "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "file": "pairs.jsonl", "token": "audit_AZNvXgAAcACAAAAAAADxJQ",
        "subject": "Audit completed: loan-denial on credit-assistant 2026-11", "body": '{"type": "run.completed"}',
        "method": "mean of clusters; wild cluster bootstrap-t 95 %", "rule": "P003", "worker": "gpu-1",
        "torch": "2.13.0", "transformers": "5.23.0", "device": "cpu",
    }
)  # fmt: skip
"""By the field's name; a name that ends in ``_id`` or ``_digest`` holds an id or a digest."""
ABSENT = frozenset({"next", "reason", "error", "broken_at", "why", "removed_at", "revoked_at", "overdue_since"})


_PAIR = {
    "attribute": "race",
    "reference_group": "white",
    "comparison_group": "black",
    "reference_prompt": "Emily asks for a loan. Approve? Answer:",
    "comparison_prompt": "Lakisha asks for a loan. Approve? Answer:",
}
_TABLE = "\n".join((",".join(_PAIR), ",".join(_PAIR.values())))
FILES: Mapping[str, str] = MappingProxyType(
    {
        JSON: json.dumps([_PAIR]),
        "application/jsonl": json.dumps(_PAIR),
        "text/csv": _TABLE,
        "application/octet-stream": _TABLE,
    }
)
"""Pair files, by media type."""


def complete(document: dict[str, Any], *, known: Mapping[str, Any]) -> None:
    """Give every body, and every answer of JSON, an example. ``known`` are those of whole schemas, by name."""
    composer = _Composer(document["components"]["schemas"], known)
    for call in (call for calls in document["paths"].values() for call in calls.values()):
        for kind, media in call.get("requestBody", {}).get("content", {}).items():
            if media["schema"].get("format") == "binary":
                media["example"] = FILES[kind]
            media.setdefault("example", composer.value(media["schema"], "", asked=True))
        for answer in call["responses"].values():
            if media := answer.get("content", {}).get(JSON):
                media.setdefault("example", composer.value(media["schema"], "", asked=False))


class _Composer:
    def __init__(self, schemas: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        self._schemas, self._known = schemas, known

    def value(self, schema: Mapping[str, Any], name: str, *, asked: bool) -> Any:  # noqa: ANN401 - any JSON
        """An example of the schema, for a field of that name. What may be left out of a body is."""
        if shown := schema.get("examples"):
            return shown[0]
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        if "$ref" in schema:
            target = schema["$ref"].rpartition("/")[2]
            return self._known.get(target) or self.value(self._schemas[target], name, asked=asked)
        if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            null = any(option.get("type") == "null" for option in options)
            return None if null and name in ABSENT else self.value(options[0], name, asked=asked)
        return self._of_type(schema, name, asked=asked)

    def _of_type(self, schema: Mapping[str, Any], name: str, *, asked: bool) -> Any:  # noqa: ANN401
        match schema.get("type"):
            case "object":
                return self._object(schema, name, asked=asked)
            case "array":
                parts = schema.get("prefixItems") or [schema["items"]] * max(schema.get("minItems", 1), 1)
                return [self.value(part, name, asked=asked) for part in parts]
            case "boolean":
                return bool(schema.get("default", False))
            case "integer" | "number" as kind:
                return _number(schema, whole=kind == "integer")
            case "string":
                return _text(schema, name)
            case _:
                return {}

    def _object(self, schema: Mapping[str, Any], name: str, *, asked: bool) -> dict[str, Any]:
        fields = schema.get("properties", {})
        wanted = schema.get("required", ()) if asked else fields
        shown = {
            one: self.value(field, one, asked=asked)
            for one, field in fields.items()
            if one in wanted or "examples" in field
        }
        more = schema.get("additionalProperties")
        if not isinstance(more, dict) or fields:
            return shown
        key = self.value(schema["propertyNames"], name, asked=asked) if "propertyNames" in schema else "name"
        return shown | {key: self.value(more, name, asked=asked)}


def _number(schema: Mapping[str, Any], *, whole: bool) -> float:
    """The default, or the smallest value that is allowed and not 0."""
    if isinstance(default := schema.get("default"), int | float):
        return default
    least: float = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    value = max(least, 1) if whole else least + 0.05
    return value if value <= schema.get("maximum", value) else least


def _text(schema: Mapping[str, Any], name: str) -> str:
    if schema.get("format") == "date-time":
        return MOMENT
    for ending, value in (("_id", ID), ("_digest", SHA256)):
        if name.endswith(ending):
            return value
    return str(WORDS.get(name, name.replace("_", " ")))
