"""The OpenAPI document as one readable page: no scripts or styles from elsewhere, light and dark."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

from gateway.api.schemas import Schema

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9d9e0; --back: #fcfcfd; --code: #f0f0f3;
  --mark: #0b6bcb; --note: #ad5700 }
@media (prefers-color-scheme: dark) { :root { --ink: #edeef0; --soft: #a1a4ab; --line: #363a3f; --back: #111113;
  --code: #1d1e22; --mark: #70b8ff; --note: #ffa057 } }
* { box-sizing: border-box } [hidden] { display: none !important }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  display: grid; grid-template-columns: 19rem minmax(0, 1fr) }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1rem; border-right: 1px solid var(--line);
  font-size: .875rem }
nav h2 { font-size: .8rem; margin: 1rem 0 .2rem; color: var(--soft); text-transform: uppercase; letter-spacing: .05em }
nav a { display: block; padding: .1rem 0; overflow-wrap: anywhere }
nav input { width: 100%; padding: .4rem; font: inherit; color: inherit; background: var(--code);
  border: 1px solid var(--line); border-radius: 4px }
main { padding: 1.5rem 2rem; max-width: 62rem }
a { color: var(--mark); text-decoration: none } a:hover { text-decoration: underline }
section { border-top: 1px solid var(--line); padding: 1rem 0 }
h3 { margin: 0; overflow-wrap: anywhere; font-size: 1.1rem } h4 { margin: 1rem 0 .3rem }
code, pre { font: .875rem/1.45 ui-monospace, monospace; background: var(--code); border-radius: 4px }
code { padding: .1em .3em } pre { padding: .7rem; overflow: auto; margin: .3rem 0 }
h3 code { background: none; padding: 0; font-size: 1rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500 }
.facts { color: var(--soft); margin: .2rem 0 } .note { color: var(--note) }
.badge { font-size: .75rem; border: 1px solid var(--note); color: var(--note); border-radius: 99px; padding: 0 .5em }
@media (max-width: 48rem) { body { display: block } nav { position: static; height: auto; max-height: 40vh;
  border-right: 0; border-bottom: 1px solid var(--line) } main { padding: 1rem }
  table { display: block; overflow: auto } }
"""

_SCRIPT = """
const filter = document.querySelector('nav input');
filter.addEventListener('input', () => {
  const wanted = filter.value.trim().toLowerCase();
  for (const each of document.querySelectorAll('[data-words]'))
    each.hidden = !each.dataset.words.includes(wanted);
});
"""


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: nothing but what is in it runs."""


class Field(NamedTuple):
    """A line of a table of fields.

    Attributes:
        name: dotted; ``[]`` = of each in a list.
        kind: type and bounds in words.
        required: whether it must be there.
        about: what it means.
    """

    name: str
    kind: str
    required: bool
    about: str


def page(document: Mapping[str, Any]) -> str:
    """The page.

    Args:
        document: from ``openapi.document``.
    """
    found = [(path, method, each) for path, methods in document["paths"].items() for method, each in methods.items()]
    title = escape(document["info"]["title"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f'<nav><input type="search" placeholder="Filter operations" aria-label="Filter operations">'
        f"{_index(document, found)}</nav><main><h1>{title}</h1>"
        f"{_paragraphs(document['info']['description'])}"
        '<p>For machines: <a href="openapi.json">openapi.json</a></p>'
        f"{''.join(_section(document, *each) for each in found)}{_codes(document)}</main>"
        f"<script>{_SCRIPT}</script></body></html>"
    )


def _index(document: Mapping[str, Any], found: list[tuple[str, str, Any]]) -> str:
    parts = []
    for tag in document["tags"]:
        links = "".join(
            f'<a href="#{each["operationId"]}" data-words="{_words(path, each)}">{escape(path)}</a>'
            for path, _, each in found
            if tag["name"] in each["tags"]
        )
        parts.append(f"<h2>{escape(tag['name'])}</h2>{links}")
    return "".join(parts)


def _words(path: str, operation: Mapping[str, Any]) -> str:
    return escape(" ".join([path, *operation.get("x-v1", ()), operation["summary"]]).lower(), quote=True)


def _section(document: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> str:
    badge = ' <span class="badge">extension</span>' if operation.get("x-extension") else ""
    facts = []
    if "x-scope" in operation:
        facts = [f"scope <code>{operation['x-scope']}</code>", escape(operation["x-rate"])]
        facts += [f"v1: <code>{escape(each)}</code>" for each in operation.get("x-v1", ())]
    elif not operation.get("security", True):
        facts = ["needs no signature"]
    note = f'<p class="note">{_inline(operation["description"])}</p>' if "description" in operation else ""
    return (
        f'<section id="{operation["operationId"]}" data-words="{_words(path, operation)}">'
        f"<h3><code>{method.upper()} {escape(path)}</code>{badge}</h3>"
        f'<p>{escape(operation["summary"])}.</p>{note}<p class="facts">{" · ".join(facts)}</p>'
        f"{_request(document, operation)}{_responses(document, operation)}</section>"
    )


def _request(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    parts = []
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        rows = list(fields(document, content["schema"]))
        parts.append(f"<h4>Request <code>{escape(kind)}</code></h4>")
        parts.append(_table(rows) if rows else "<p>No fields.</p>")
        if content.get("example"):
            parts.append(_json(content["example"]))
    return "".join(parts)


def _responses(document: Mapping[str, Any], operation: Mapping[str, Any]) -> str:
    parts, failures = [], []
    for status, given in operation["responses"].items():
        response = _resolved(document, given)
        for content in response["content"].values():
            if status == "200":
                result = content["schema"].get("properties", {}).get("result")
                rows = list(fields(document, result)) if result is not None else []
                if rows:
                    parts.append(f"<h4>Result</h4>{_table(rows)}")
                if "example" in content:
                    parts.append(_json(content["example"]))
            else:
                failures += [
                    f"<tr><td>{status}</td><td>{code}</td><td>{escape(each['value']['errorMessage'])}</td></tr>"
                    for code, each in content["examples"].items()
                ]
    if failures:
        parts.append(
            f"<details><summary>Errors</summary>{_grid('HTTP', 'code', 'meaning', ''.join(failures))}</details>"
        )
    return "".join(parts)


def _codes(document: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{code}</td><td>{each['httpStatus']}</td><td>{escape(each['meaning'])}</td></tr>"
        for code, each in document["x-codes"].items()
    )
    return f'<section id="codes"><h3>Codes</h3>{_grid("code", "HTTP", "meaning", rows)}</section>'


def _grid(first: str, second: str, third: str, rows: str) -> str:
    return f"<table><tr><th>{first}</th><th>{second}</th><th>{third}</th></tr>{rows}</table>"


def _table(rows: list[Field]) -> str:
    lines = "".join(
        f"<tr><td><code>{escape(row.name)}</code></td><td>{escape(row.kind)}{'' if row.required else ', optional'}</td>"
        f"<td>{_inline(row.about)}</td></tr>"
        for row in rows
    )
    return _grid("field", "type", "meaning", lines)


def fields(document: Mapping[str, Any], schema: Schema, prefix: str = "") -> Iterator[Field]:
    """The fields of an object, those of objects within it after their own.

    Args:
        document: where references lead.
        schema: of the object.
        prefix: what stands before the names.
    """
    schema = _resolved(document, schema)
    for name, given in schema.get("properties", {}).items():
        about = _resolved(document, given)
        required = name in schema.get("required", ())
        yield Field(prefix + name, kind(document, given), required, given.get("description", ""))
        inner = _resolved(document, about.get("items", {}))
        if inner.get("properties"):
            yield from fields(document, inner, f"{prefix}{name}[].")
        elif about.get("properties"):
            yield from fields(document, about, f"{prefix}{name}.")


def kind(document: Mapping[str, Any], schema: Schema) -> str:
    """A type and its bounds in words."""
    schema = _resolved(document, schema)
    if "anyOf" in schema:
        kinds = [kind(document, each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    match schema.get("type"):
        case "array":
            return f"list{_bounds(schema, 'Items')} of {kind(document, schema.get('items', {}))}"
        case "string":
            return f"text{_bounds(schema, 'Length')}"
        case "integer":
            return f"whole number{_bounds(schema, 'imum')}"
        case "number":
            return "number"
        case "boolean":
            return "true | false"
        case "object":
            return "object"
    return "anything"


def _bounds(schema: Schema, what: str) -> str:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    if low is not None and high is not None:
        return f" ({low:,} to {high:,})"
    if high is not None:
        return f" (at most {high:,})"
    return f" (at least {low:,})" if low is not None else ""


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    found: Any = schema
    if "$ref" in schema:
        found = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
    return dict(found)


def _json(value: Any) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False), quote=False)}</pre>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_inline(each)}</p>" for each in text.strip().split("\n\n"))


def _inline(text: str) -> str:
    pieces = escape(text, quote=False).split("`")
    return "".join(f"<code>{each}</code>" if index % 2 else each for index, each in enumerate(pieces))
