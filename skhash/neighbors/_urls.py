"""Stores by their URLs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from ._duckdb import DuckDBStore
from ._postgres import PostgresStore

_OPTIONS = {"table", "version", "search", "ef_search"}


def is_url(backend: Any) -> bool:
    """Whether a parameter is the URL of a store."""
    return isinstance(backend, str) and "://" in backend


def holds_password(url: str) -> bool:
    """Whether there is a password in a URL."""
    parts = urlsplit(url)
    names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    return bool(parts.password) or any("password" in name for name in names)


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
        If the URL has neither form, or a parameter is unknown.
    ImportError, OSError
        As raised by these classes.

    Examples
    --------
    >>> from skhash.neighbors import open_store
    >>> store = open_store("duckdb:///photos.duckdb?table=codes")  # doctest: +SKIP
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, got {type(url).__name__}.")
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options: dict[str, Any] = {name: value for name, value in pairs if name in _OPTIONS}
    others = [(name, value) for name, value in pairs if name not in _OPTIONS]
    if "ef_search" in options:
        options["ef_search"] = int(options["ef_search"])
    if parts.scheme in ("postgresql", "postgres"):
        query = urlencode(others, quote_via=quote)
        return PostgresStore(urlunsplit(parts._replace(query=query)), **options)
    if parts.scheme == "duckdb" and not parts.netloc and len(parts.path) > 1:
        unknown = {name for name, _ in others} | ({"search", "ef_search"} & options.keys())
        if unknown:
            raise ValueError(f"a DuckDBStore has no parameter {sorted(unknown)[0]!r}.")
        return DuckDBStore(unquote(parts.path[1:]), **options)
    raise ValueError(
        f"url must begin with postgresql:// or be duckdb:///file; it begins with {parts.scheme!r}."
    )
