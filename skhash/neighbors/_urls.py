"""Stores by their URLs."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from ._duckdb import DuckDBStore
from ._postgres import PostgresStore

_OPTIONS = {"table", "version", "search", "ef_search"}
_ESCAPES = "characters like @, /, # and % in a part of a URL must be written as %40, %2F, %23, %25."
# A colon before an @, unless only a port follows it. Characters that should be escaped in a
# password, such as /, ? and #, are no end of it: libpq accepts some, and users forget others.
_PASSWORD = re.compile(r"://[^@/]*:(?!\d+/).+@", re.DOTALL)


def is_url(backend: Any) -> bool:
    """Whether a parameter is the URL of a store."""
    return isinstance(backend, str) and "://" in backend


def holds_password(url: str) -> bool:
    """Whether there is a password in a URL, even in one that cannot be parsed."""
    names = {name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
    return bool(_PASSWORD.search(url)) or any("password" in name for name in names)


def open_store(url: str) -> PostgresStore | DuckDBStore:
    """Open a store by its URL.

    Parameters
    ----------
    url : str
        "postgresql://user@host:5432/database" or "duckdb:///path/of/file"
        ("duckdb:////..." for an absolute path). Parameters of the store, and
        of libpq, follow after a "?", as in
        "postgresql://host/photos?table=codes&search=hnsw".

    Returns
    -------
    PostgresStore or DuckDBStore

    Raises
    ------
    ValueError
        If the URL has neither form, or a parameter is unknown, given twice or
        invalid.
    ImportError, OSError
        As raised by these classes.

    Examples
    --------
    >>> from skhash.neighbors import open_store
    >>> store = open_store("duckdb:///photos.duckdb?table=codes")  # doctest: +SKIP
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, got {type(url).__name__}.")
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may repeat a password
        raise ValueError(f"url cannot be parsed: {_ESCAPES}") from None
    if "#" in url:
        raise ValueError(f'url has a "#", which would end it: {_ESCAPES}')
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    repeated = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if repeated:
        raise ValueError(f"url has the parameter {repeated[0]!r} more than once; give it once.")
    options: dict[str, Any] = {name: value for name, value in pairs if name in _OPTIONS}
    others = [(name, value) for name, value in pairs if name not in _OPTIONS]
    if "ef_search" in options:
        if not options["ef_search"].isdecimal():
            raise ValueError(f"ef_search must be a number, got {options['ef_search']!r}.")
        options["ef_search"] = int(options["ef_search"])
    if parts.scheme in ("postgresql", "postgres"):
        query = urlencode(others, quote_via=quote)
        return PostgresStore(urlunsplit(parts._replace(query=query)), **options)
    if url.startswith("duckdb:///") and len(parts.path) > 1:
        unknown = {name for name, _ in others} | ({"search", "ef_search"} & options.keys())
        if unknown:
            raise ValueError(f"a DuckDBStore has no parameter {sorted(unknown)[0]!r}.")
        return DuckDBStore(unquote(parts.path[1:]), **options)
    raise ValueError(
        f"url must begin with postgresql:// or be duckdb:///file; it begins with {parts.scheme!r}."
    )
