"""What callers of the API build on: each call with what it takes, what it must be given, and what it answers.

`python -m tests.compatibility` prints it for tests/v1.txt, to be done at each release: what stands there stays.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from audit_service.app import create_app
from audit_service.settings import Settings

PROMISED = Path(__file__).with_name("v1.txt")
MUST, MAY, ANSWER = "must", "may", "answer"


def surface(document: Mapping[str, Any]) -> Iterator[str]:
    """A line for each call and kind of word: `POST /v1/plans must pair_set_id, …`."""
    schemas = document["components"]["schemas"]
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            for kind, words in _words(call, schemas).items():
                yield f"{method.upper()} {path} {kind} {', '.join(sorted(words))}".rstrip()


def _words(call: Mapping[str, Any], schemas: Mapping[str, Any]) -> dict[str, set[str]]:
    words: dict[str, set[str]] = {MUST: set(), MAY: set(), ANSWER: set()}
    for given in call.get("parameters", ()):
        words[MUST if given.get("required") else MAY].add(f"{given['in']}:{given['name']}")
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for kind in (one for one in _resolved(body, schemas) if "properties" in one):
        required = set(kind.get("required", ()))
        words[MUST] |= required
        words[MAY] |= set(kind["properties"]) - required
    for status, answer in call["responses"].items():
        if status.startswith("2"):
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            words[ANSWER] |= {f"{status}:{name}" for name in _fields(schema, schemas)}
    return words


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    """Names of an answer's fields, of those in a list too."""
    for kind in _resolved(schema, schemas):
        if "items" in kind:
            yield from _fields(kind["items"], schemas)
        for name, field in kind.get("properties", {}).items():
            yield name
            if "items" in field:
                yield from (f"{name}.{inner}" for inner in _fields(field["items"], schemas))


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "$ref" in schema:
        yield schemas[schema["$ref"].rpartition("/")[2]]
    elif options := schema.get("anyOf") or schema.get("oneOf"):
        for option in options:
            yield from _resolved(option, schemas)
    else:
        yield schema


def taken_away(promised: Iterator[str], present: Iterator[str]) -> list[str]:
    """What was promised and is not there, and what must be given that was not to be."""
    now, broken = {_call(line): _listed(line) for line in present}, []
    for line in promised:
        call, words, known = _call(line), _listed(line), now.get(_call(line))
        if known is None:
            broken.append(f"{call} is gone")
            continue
        if call.endswith(MUST):
            taken = now[call.removesuffix(MUST) + MAY]
            broken += [f"{call}: {one} is new" for one in sorted(known - words)]
            broken += [f"{call}: {one} is gone" for one in sorted(words - known - taken)]
        else:
            broken += [f"{call}: {one} is gone" for one in sorted(words - known)]
    return broken


def _call(line: str) -> str:
    return " ".join(line.split(" ", 3)[:3])


def _listed(line: str) -> set[str]:
    words = line.split(" ", 3)[3:]
    return set(words[0].split(", ")) if words else set()


if __name__ == "__main__":
    nowhere = Settings(database_url="postgresql://nobody@127.0.0.1:1/none", model_roots=(Path("/models"),))
    print("\n".join(surface(create_app(nowhere).openapi())))  # noqa: T201 - what it is for
