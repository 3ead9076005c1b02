"""JSON Schemas of the rows' requests and results: msgspec's, with what only the docstrings and the settings know."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from gateway.api.operation import Done, Operation, id_fields

Schema = dict[str, Any]

_TEMPLATE = "#/components/schemas/{name}"
_entry = re.compile(r"( *)(\w+(?:, \w+)*): (.*)").fullmatch


class Schemas:
    """The schemas of some rows.

    Args:
        rows: the operations.
        id_pattern: what a whole user id matches.
        ids_max: how long a list of ids may be that has no bound of its own.

    Attributes:
        components: what goes under ``components/schemas``.
    """

    def __init__(self, rows: Sequence[Operation[Any, Any]], id_pattern: str, ids_max: int) -> None:
        types: list[Any] = [kind for row in rows for kind in (row.asks, _answers(row))]
        structs = list(_structs(msgspec.inspect.multi_type_info(types)))
        made, components = msgspec.json.schema_components([*types, *structs], ref_template=_TEMPLATE)
        names = _short_names(components)
        refs: list[Schema] = [_renamed(schema, names) for schema in made]
        self.components: dict[str, Schema] = {names[name]: _renamed(each, names) for name, each in components.items()}
        self._asks, self._answers = refs[0 : len(types) : 2], refs[1 : len(types) : 2]
        self._index = {id(row): index for index, row in enumerate(rows)}
        self._of = {struct: self.resolved(ref) for struct, ref in zip(structs, refs[len(types) :], strict=True)}
        for struct, schema in self._of.items():
            _describe(schema, struct)
        for row in rows:
            if isinstance(row.asks, type) and row.asks in self._of:
                _bound_ids(self._of[row.asks], row.asks, id_pattern, ids_max)

    def asks(self, row: Operation[Any, Any]) -> Schema:
        """The schema of a row's request body (often a reference)."""
        return self._asks[self._index[id(row)]]

    def answers(self, row: Operation[Any, Any]) -> Schema | None:
        """The schema of a row's ``result``; None = there is none."""
        return None if row.answers is None else self._answers[self._index[id(row)]]

    def resolved(self, schema: Schema) -> Schema:
        """What a reference stands for."""
        reference: str | None = schema.get("$ref")
        return schema if reference is None else self.components[reference.rpartition("/")[2]]


def described(struct: type[msgspec.Struct]) -> Schema:
    """The schema of a struct without structs in it, for a request or a result that is a plain mapping."""
    (_,), components = msgspec.json.schema_components([struct], ref_template=_TEMPLATE)
    (schema,) = components.values()
    _describe(schema, struct)
    return dict(schema)


def _answers(row: Operation[Any, Any]) -> Any:
    return Done if row.answers is None else row.answers


def _structs(kinds: Iterable[msgspec.inspect.Type]) -> Iterator[type[msgspec.Struct]]:
    """Every struct that the types are made of, once."""
    seen: set[type] = set()
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, msgspec.inspect.StructType):
            if kind.cls in seen:
                continue
            seen.add(kind.cls)
            yield kind.cls
            waiting += [field.type for field in kind.fields]
        for name in ("type", "types", "item_type", "key_type", "value_type"):
            inner = getattr(kind, name, ())
            waiting += [inner] if isinstance(inner, msgspec.inspect.Type) else list(inner)


def _short_names(components: Iterable[str]) -> dict[str, str]:
    """``Targets`` where it is the only one, ``FriendsTargets`` where two modules have it."""
    names = {}
    for name in components:
        module, _, plain = name.rpartition(".")
        names[name] = module.rpartition(".")[2].title().replace("_", "") + plain
    repeated = [name for name, count in Counter(names.values()).items() if count > 1]
    if repeated:
        raise ValueError(f"two schemas would be named {', '.join(repeated)}: rename a struct")
    return names


def _renamed(node: Any, names: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_renamed(each, names) for each in node]
    if not isinstance(node, dict):
        return node
    renamed = {key: _renamed(value, names) for key, value in node.items()}
    if isinstance(node.get("$ref"), str):
        renamed["$ref"] = _TEMPLATE.format(name=names[node["$ref"].rpartition("/")[2]])
    return renamed


def _describe(schema: Schema, struct: type[msgspec.Struct]) -> None:
    """Puts the docstring's first sentence and its attributes where readers of a schema look for them."""
    schema.pop("title", None)
    schema["description"] = (inspect.getdoc(struct) or "").partition("\n\n")[0].replace("\n", " ")
    texts: dict[str, str] = {}
    for each in reversed(struct.__mro__):
        texts |= _attributes(inspect.cleandoc(each.__doc__ or ""))
    for field in msgspec.structs.fields(struct):
        about = schema["properties"][field.encode_name]
        sentences = [_sentence(texts.get(field.name, "")), about.pop("description", "")]
        described = " ".join(sentence for sentence in sentences if sentence)
        if described:
            about["description"] = described


def _attributes(docstring: str) -> dict[str, str]:
    """Attribute → text, of a docstring's ``Attributes:``."""
    texts: dict[str, str] = {}
    current: list[str] = []
    for line in docstring.partition("Attributes:\n")[2].splitlines():
        entry = _entry(line)
        if entry and len(entry[1]) == 4:
            current = entry[2].split(", ")
            texts |= dict.fromkeys(current, entry[3])
        elif line.startswith("     "):
            texts |= {name: f"{texts[name]} {line.strip()}" for name in current}
        else:
            break
    return texts


def _sentence(text: str) -> str:
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _bound_ids(schema: Schema, asks: Any, id_pattern: str, ids_max: int) -> None:
    """Says what the annotations cannot: settings decide what an id looks like and how many a call takes."""
    for _, name, bounded in id_fields(asks):
        schema["properties"][name] = about = dict(schema["properties"][name])
        for each in [about, *about.get("anyOf", ())]:
            if each.get("type") == "array":
                each["items"] = each["items"] | {"pattern": f"^(?:{id_pattern})$"}
                if not bounded:
                    each["maxItems"] = ids_max
            elif each.get("type") == "string":
                each["pattern"] = f"^(?:{id_pattern})$"
