"""Contracts that nobody means well with: each must be refused, in bounded time and memory, and said where and why."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

VERSION = "1.1.0"


@dataclass(frozen=True)
class Hostile:
    name: str
    body: bytes
    # Where the first finding is, and a word of it. Of what is not read at all there is no place but the whole.
    pointer: str
    word: str


def _document(**schema: Any) -> bytes:
    settings = {"version": VERSION, "team": {"name": "Nobody"}, "format": {"type": "jsonl"}}
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps({"$schema": dialect, "type": "object", "x-sluicegate": settings, **schema}).encode()


def _nested(levels: int, wrap: Any) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(levels):
        schema = wrap(schema)
    return schema


def documents() -> list[Hostile]:
    doubling = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)}
    itself = {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}

    def pattern(name: str, text: str) -> Hostile:
        return Hostile(name, _document(properties={"a": {"type": "string", "pattern": text}}), "/properties/a/pattern", "linear-time")

    def deep(levels: int) -> Any:
        return _nested(levels, lambda inner: {"type": "object", "properties": {"a": inner}})

    return [
        Hostile("10 MB of JSON", _document(description="x" * 10_000_000), "", "a contract has at most 1048576"),
        Hostile("10,000 properties", _document(properties={f"p{n}": {"type": "string"} for n in range(10_000)}), "/properties", "more than 2000"),
        Hostile("200 levels", _document(properties={"a": deep(200)}), "", "recursion limit"),
        Hostile("40 structs", _document(properties={"a": deep(40)}), "/properties/a" * 18, "more than 16"),
        Hostile("80 times not", _document(properties={"a": _nested(80, lambda inner: {"not": inner})}), "/properties/a" + "/not" * 63, "more than 64"),
        Hostile(
            "a thousand million branches",
            _document(properties={"a": {"$ref": "#/$defs/d0"}}, **{"$defs": doubling | {"d30": {"type": "integer"}}}),
            "/$defs/d28/anyOf/1/$ref",
            "expand to more",
        ),
        Hostile("a reference to itself", _document(properties={"a": {"$ref": "#/$defs/a"}}, **{"$defs": itself}), "/$defs/a/anyOf/0/$ref", "itself"),
        pattern("a thousand million states", "((a{1000}){1000}){1000}"),
        pattern("look-ahead", "(?=a)b"),
        pattern("a back reference", "(a)\\1"),
        Hostile("1000 patterns", _document(properties={f"p{n}": {"type": "string", "pattern": f"^a{n}$"} for n in range(1000)}), "/properties/p200/pattern", "200 patterns"),
        Hostile("brackets", b"[" * 1_000_000, "", "recursion limit"),
        Hostile("a name twice", b'{"type": "object", "type": "object"}', "", "twice"),
        Hostile("no text", b"\xff\xfe{}", "", "UTF-8"),
    ]
