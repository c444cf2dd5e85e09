"""Credentials kept out of what is stored and printed: a URI may hold them in its user part and in its query."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "***"
_URI_IN_TEXT = re.compile(
    r"""(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*)://(
        (?:[^\s"'<>/?#:@]*:(?!\d*(?:[/?#\s]|$))\S*@)?  # a password may hold quotation marks
        [^\s"'<>?]*
        (?:\?(?:[^\s"'<>]|["'<>](?=\w))*)?  # and so may a query: what is behind its last one is the text's
    )""",
    re.VERBOSE,
)
_URI_TO_THE_END = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.+)", re.DOTALL)
_USER = re.compile(r"[^/?#]*@")
_PASSWORD = re.compile(r"[^/?#@]*:(?!\d*(?:[/?#]|$)).*@", re.DOTALL)
"""A user and a password that should have been quoted: what follows the colon is no port. Secrets of S3 have slashes."""
_CONTAINERS = ("abfs", "abfss")
"""Schemes whose name before the host is no user's: abfs://CONTAINER@ACCOUNT.dfs.core.windows.net."""


def redacted(text: str) -> str:
    """A text with `***` in place of the user part and the query of each URI in it."""
    return _URI_IN_TEXT.sub(_without_credentials, text)


def redacted_uri(value: str) -> str:
    """A value that is a URI and nothing else, redacted to its end: its password or query may hold spaces and quotation
    marks. Any other value is redacted as a text."""
    whole = _URI_TO_THE_END.fullmatch(value)
    return redacted(value) if whole is None else _without_credentials(whole)


def redacted_command(arguments: Sequence[str]) -> str:
    """A command line, quoted for a shell, with `***` in place of the user part and the query of each URI in it.

    An argument with a URI ends with it: a query may hold spaces and quotation marks.
    """
    return shlex.join(_URI_TO_THE_END.sub(_without_credentials, argument) for argument in arguments)


def redacted_values(values: Any) -> Any:
    """Plain nested values with each of their texts redacted, those that are URIs to their end."""
    if isinstance(values, str):
        return redacted_uri(values)
    if isinstance(values, Mapping):
        return {name: redacted_values(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [redacted_values(value) for value in values]
    return values


def holds_password(uri: str) -> bool:
    """Whether a URI has a user part with a password."""
    scheme, separator, rest = uri.partition("://")
    user = _user_part(scheme, rest)
    return bool(separator) and ":" in user


def _user_part(scheme: str, rest: str) -> str:
    """What stands before the host, with its @; empty if there is nothing, or a name that is part of the place."""
    found = _USER.match(rest) or _PASSWORD.match(rest)
    user = "" if found is None else found[0]
    return "" if scheme.lower() in _CONTAINERS and ":" not in user else user


def _without_credentials(uri: re.Match[str]) -> str:
    scheme, rest = uri[1], uri[2]
    user = _user_part(scheme, rest)
    place, question, query = rest.removeprefix(user).partition("?")
    hidden_query = f"?{HIDDEN}{query[len(query.rstrip('.,:;)')) :]}" if query.rstrip(".,:;)") else f"{question}{query}"
    return f"{scheme}://{HIDDEN + '@' if user else ''}{place}{hidden_query}"
