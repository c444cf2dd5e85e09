"""JSON documents that carry their own hash, so that a changed bit is noticed before anything is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cocktail.foreign.bounded import UntrustworthyError, parse_json

_HASH = "document_sha256"
_SHOWN = 80
"""Letters of a schema that are shown."""


def canonical_json(value: Any) -> bytes:
    """JSON that is the same for equal values: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sign(document: Mapping[str, Any]) -> bytes:
    """A document with its hash, as canonical JSON."""
    return canonical_json({**document, _HASH: digest(document)})


def schema_of(data: bytes) -> str | None:
    """The schema that a document claims, whether or not its hash holds; None if it is no such document."""
    try:
        return str(parse_json(data)["schema"])[:_SHOWN]
    except (UntrustworthyError, KeyError, TypeError):
        return None


def claims(data: bytes, schema: str) -> bool:
    """Whether what `sign` wrote was of a schema, going by its bytes: also if it has been damaged since."""
    return b'"schema":' + canonical_json(schema) in data


def parse_signed(data: bytes) -> dict[str, Any] | None:
    """The document that `sign` was given; None if so much as a bit has changed since."""
    try:
        document = parse_json(data)
        claimed = document.pop(_HASH)
        return document if claimed == digest(document) and sign(document) == data else None
    except (UntrustworthyError, UnicodeEncodeError, KeyError, AttributeError, TypeError, RecursionError):
        return None
