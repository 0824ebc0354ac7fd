"""All addresses with what they take and give, as a plain page made of the OpenAPI description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI


def reference(api: FastAPI) -> str:
    """The page as HTML."""
    described = api.openapi()
    known = described.get("components", {}).get("schemas", {})
    parts = [
        _section(method, path, what, known)
        for path, methods in described["paths"].items()
        for method, what in methods.items()
    ]
    title = escape(f"{described['info']['title']}: addresses")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="icon.svg">
<link rel="stylesheet" href="page.css">
</head>
<body class="reference">
<header class="top"><h1>Addresses</h1>
<p class="facts">version {escape(described["info"]["version"])}, the same as <a href="openapi.json">openapi.json</a></p>
<nav><a href="./">Back to the page</a></nav></header>
<main>
<p class="lead">Requests and answers are JSON. A mistake has a status of 4xx and <code>{{"error": "a line"}}</code>.</p>
{"".join(parts)}
</main>
</body>
</html>
"""


def _section(method: str, path: str, what: dict[str, Any], known: dict[str, Any]) -> str:
    asked = _schema(what.get("requestBody", {}), known)
    given = _schema(what["responses"].get("200", {}), known)
    parameters = [
        _row(one["name"], one["schema"], one.get("required", False), one.get("description", ""))
        for one in what.get("parameters", ())
    ]
    rows = [*parameters, *_rows(asked)]
    text = [f"<section class='card'><h2><code>{method.upper()} {escape(path)}</code></h2>"]
    text.append(f"<p>{escape(what.get('summary', ''))}.</p>")
    if rows:
        text.append(f"<h3>Asked</h3><div class='wide'><table>{''.join(rows)}</table></div>")
    example = asked.get("examples", [None])[0]
    if example is not None:
        line = f"curl -H 'content-type: application/json' -d '{json.dumps(example)}' http://127.0.0.1:8000{path}"
        text.append(f"<div class='wide'><pre>{escape(line)}</pre></div>")
    answered = list(_rows(given))
    if answered:
        text.append(f"<h3>Answered</h3><div class='wide'><table>{''.join(answered)}</table></div>")
    return "".join(text) + "</section>\n"


def _schema(content: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    inside: dict[str, Any] = content.get("content", {}).get("application/json", {}).get("schema", {})
    return known[_name(inside)] if "$ref" in inside else inside


def _name(schema: dict[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _rows(schema: dict[str, Any]) -> Iterator[str]:
    needed = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        yield _row(name, field, name in needed, field.get("description", ""))


def _row(name: str, field: dict[str, Any], needed: bool, words: str) -> str:
    default = "needed" if needed else json.dumps(field.get("default")) if field.get("default") is not None else ""
    cells = (f"<code>{escape(name)}</code>", escape(_kind(field)), escape(default), escape(words))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _kind(field: dict[str, Any]) -> str:
    """The kind of a value in words, from its JSON schema."""
    if "$ref" in field:
        return _name(field)
    if "anyOf" in field:
        kinds = [_kind(one) for one in field["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return " or ".join(map(json.dumps, field["enum"]))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    kinds_of_json = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "object"}
    return kinds_of_json.get(str(field.get("type", "")), str(field.get("type", "anything")))
