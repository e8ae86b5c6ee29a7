r"""
A search service
================

A saved :class:`~skhash.ImageSearch` answers over HTTP. Queries are photos or
words, answers are JSON. Adapt this script to your needs; it is not run on this
page. :doc:`/user_guide/serving` explains its limits::

    pip install "scikit-hash[serve]"
    python examples/serve_search.py FOLDER --port 8000

    curl -F photo=@beach.jpg "http://127.0.0.1:8000/search/photo?n=5"
    curl --data-binary @beach.jpg \
        "http://127.0.0.1:8000/search/photo?having=sunset"
    curl "http://127.0.0.1:8000/search/words?words=beach&words=sunset"
    curl --json '{"words": ["beach", "sunset"], "n": 5}' \
        http://127.0.0.1:8000/search/words
    curl http://127.0.0.1:8000/search/like/ID
    curl http://127.0.0.1:8000/health

An answer is a list of ``{"id": ..., "distance": ..., "tags": [...]}``, nearest
first; an error is ``{"error": "..."}``.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import argparse
import asyncio
import json
import os
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
import uvicorn
from PIL import Image, UnidentifiedImageError
from python_multipart.exceptions import FormParserError
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from skhash import ImageSearch
from skhash.images import ImageReadError
from skhash.tags import clean_tag

FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class Limits:
    """Limits for requests; a request beyond a limit gets an error."""

    photo_bytes: int = 10_000_000
    words_bytes: int = 50_000
    pixels: int = 50_000_000  # of a photo, before it is decoded
    neighbors: int = 100
    seconds: float = 20  # until a body has arrived
    # Those that are read, wait and are answered at a time; 503 for all others.
    requests: int = 32


class Service:
    """Endpoints for one search.

    Photos are decoded and searched in threads, so that the event loop is
    always free.
    """

    def __init__(
        self, search: ImageSearch, limits: Limits, n_threads: int | None
    ) -> None:
        self.search = search
        self.limits = limits
        self.threads = ThreadPoolExecutor(n_threads or os.cpu_count())
        self.id_of = {str(name): name for name in search.ids_.tolist()}
        self.n_requests = 0

    def endpoint(
        self, ask: Callable[[Request], Awaitable[Any]], *, body_bytes: int = 0
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint with limits of requests at a time and of bytes read."""

        async def respond(request: Request) -> Response:
            if self.n_requests >= self.limits.requests:
                retry = {"Retry-After": "1"}
                raise HTTPException(503, "too many requests at a time", retry)
            self.n_requests += 1
            try:
                bounded = limited(request, body_bytes, self.limits.seconds)
                return as_json(await ask(bounded))
            finally:
                self.n_requests -= 1

        return respond

    async def photo(self, request: Request) -> Any:
        """Photos similar to the one that was sent.

        The photo is a file of a form or the body.
        """
        n, having = self.options(in_url(request), {"n", "having"})
        content = await photo_of(request)

        def search() -> Any:
            image = open_photo(content, self.limits.pixels)
            try:
                return self.search.query(image, n, having=having)
            except ImageReadError:
                raise HTTPException(
                    422, "the photo cannot be decoded: it is damaged"
                ) from None

        return await self.in_thread(search)

    async def words(self, request: Request) -> Any:
        """Photos for words.

        Unknown words are ignored if at least one word is known.
        """
        asked = in_url(request)
        if request.method == "POST":
            asked |= in_json(await request.body())
        n, having = self.options(asked, {"words", "n", "having"})
        words = check_words(asked.get("words"), "words")

        def search() -> Any:
            try:
                return self.search.query_tags([words], n, having=having)
            except ValueError:
                raise HTTPException(
                    422, "the search knows none of these words"
                ) from None

        return await self.in_thread(search)

    async def like(self, request: Request) -> Any:
        """Photos similar to one of the search, by its id.

        The id is never used as a file name.
        """
        n, having = self.options(in_url(request), {"n", "having"})
        name = self.id_of.get(request.path_params["id"])
        if name is None:
            raise HTTPException(404, "there is no photo of this id")
        return await self.in_thread(
            lambda: self.search.query_ids(name, n, having=having)
        )

    async def health(self, request: Request) -> Response:
        """Whether the service runs; this is answered even if it is busy."""
        return as_json({"status": "ok", "n_photos": len(self.search)})

    def options(
        self, asked: dict[str, Any], known: set[str]
    ) -> tuple[int, list[str] | None]:
        """The number of wanted photos, and the tags that these must have."""
        if unknown := set(asked) - known:
            raise HTTPException(422, f"unknown: {', '.join(sorted(unknown))}")
        n = asked.get("n", 10)
        most = self.limits.neighbors
        # Not isinstance, because True is an int in Python.
        if type(n) is not int or not 1 <= n <= most:
            raise HTTPException(422, f"n must be a whole number, 1 to {most}")
        having = asked.get("having")
        return n, None if having is None else check_words(having, "having")

    async def in_thread(
        self, search: Callable[[], Any]
    ) -> list[dict[str, Any]]:
        """Answers of a search in a thread.

        They are without paths, which clients must not see.
        """
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self.threads, search)
        return [
            {"id": hit.id, "distance": hit.distance, "tags": hit.tags}
            for hit in result[0]
        ]


def limited(request: Request, n_bytes: int, seconds: float) -> Request:
    """A request with an error if its body is too large or too slow."""
    too_large = HTTPException(413, f"the body has more than {n_bytes:,} bytes")
    if int(request.headers.get("content-length", 0)) > n_bytes:
        raise too_large
    deadline = asyncio.get_running_loop().time() + seconds
    n_left = n_bytes

    async def receive() -> Message:
        nonlocal n_left
        try:
            async with asyncio.timeout_at(deadline):
                message = await request.receive()
        except TimeoutError:
            raise HTTPException(
                408, "the body came too slowly", {"Connection": "close"}
            ) from None
        # Counted, because headers may not give the size.
        n_left -= len(message.get("body", b""))
        if n_left < 0:
            raise too_large
        return message

    return Request(request.scope, receive)


async def photo_of(request: Request) -> bytes:
    """The bytes of the photo that was sent."""
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        return await request.body()
    try:
        async with request.form(max_files=1, max_fields=0) as form:
            file = form.get("photo")
            if not isinstance(file, UploadFile):
                raise HTTPException(422, "the form has no file named photo")
            return await file.read()
    except FormParserError:
        raise HTTPException(400, "the form is malformed") from None


def open_photo(content: bytes, max_pixels: int) -> Image.Image:
    """Open a photo by its content, not by its name, without decoding it."""
    too_large = HTTPException(
        413, f"the photo has more than {max_pixels:,} pixels"
    )
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise HTTPException(
            415, f"this is no photo in {', '.join(FORMATS)}"
        ) from None
    except Image.DecompressionBombError:
        raise too_large from None
    except Exception:
        # Pillow's decoders raise OSError, ValueError, SyntaxError, ...
        raise HTTPException(
            422, "the photo cannot be opened: it is damaged"
        ) from None
    if image.width * image.height > max_pixels:
        raise too_large
    return image


def in_url(request: Request) -> dict[str, Any]:
    """The query of a URL, in the form of JSON.

    n stays text if it is not a number.
    """
    asked: dict[str, Any] = {}
    for name in request.query_params:
        asked[name] = request.query_params.getlist(name)
    match asked.get("n"):
        case [n] if n.isdecimal() and len(n) < 10:
            asked["n"] = int(n)
    return asked


def in_json(body: bytes) -> dict[str, Any]:
    """The query of a body."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise HTTPException(
            422, 'the body must be JSON, such as {"words": ["beach"], "n": 10}'
        )
    return asked


def check_words(words: Any, name: str) -> list[str]:
    """At least one word."""
    if not isinstance(words, list) or not words:
        raise HTTPException(422, f"{name} must be a list of words")
    if not all(isinstance(word, str) and clean_tag(word) for word in words):
        raise HTTPException(422, f"{name} must be words that are not empty")
    return words


def as_json(content: Any, status: int = 200, headers: Any = None) -> Response:
    """A response in ASCII.

    Ids may be names of files that are not valid Unicode.
    """
    return Response(
        json.dumps(content), status, headers, media_type="application/json"
    )


async def report(request: Request, error: Exception) -> Response:
    """A response that says what is wrong with a request."""
    assert isinstance(error, HTTPException)
    return as_json({"error": error.detail}, error.status_code, error.headers)


async def report_failure(request: Request, error: Exception) -> Response:
    """A response after a failure; details are only in the service's log."""
    # The server closes the connection after this; the client must not use it
    # again.
    return as_json({"error": "internal error"}, 500, {"Connection": "close"})


async def nobody_listens(request: Request, error: Exception) -> Response:
    """End a request whose client has disconnected."""
    return as_json({"error": "the client has gone"}, 400)


def make_app(
    search: ImageSearch,
    limits: Limits | None = None,
    *,
    n_threads: int | None = None,
) -> Starlette:
    """The service of a search, as an ASGI application."""
    limits = limits or Limits()
    service = Service(search, limits, n_threads)
    # Unknown words and damaged photos are no problem of the service, and
    # Python would store every such warning.
    warnings.filterwarnings("ignore", "tags has words", UserWarning)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    photo = service.endpoint(service.photo, body_bytes=limits.photo_bytes)
    words = service.endpoint(service.words, body_bytes=limits.words_bytes)
    return Starlette(
        routes=[
            Route("/search/photo", photo, methods=["POST"]),
            Route("/search/words", words, methods=["GET", "POST"]),
            Route("/search/like/{id:path}", service.endpoint(service.like)),
            Route("/health", service.health),
        ],
        exception_handlers={
            HTTPException: report,
            ClientDisconnect: nobody_listens,
            Exception: report_failure,
        },
    )


def load_search(folder: str) -> ImageSearch:
    """Load a search and check that clients may see its content."""
    search = ImageSearch.load(folder)
    if hasattr(search, "n_features_in_"):
        raise SystemExit(
            f"{folder} searches features; "
            "this service needs a search of photos."
        )
    names = [name for name in search.ids_ if isinstance(name, str)]
    if any(os.path.isabs(name) for name in names):
        raise SystemExit(
            f"Ids in {folder} are absolute paths, which clients would see. "
            "Index the photos again with other names: "
            "ImageSearch(FrozenEstimator(search.hasher_))"
            ".fit(files, tags, ids)."
        )
    # A cache of features would grow with every upload, and each would start
    # processes.
    for_one_photo = {"cache": None, "num_workers": 0}
    hasher = search.hasher_
    ends = {name: name.split("__")[-1] for name in hasher.get_params()}
    changes = {
        name: for_one_photo[end]
        for name, end in ends.items()
        if end in for_one_photo
    }
    hasher.set_params(**changes)
    return search


def app_of(folder: str) -> Starlette:
    """The service of a folder."""
    # One thread per photo, and as many photos at a time as CPUs.
    torch.set_num_threads(1)
    return make_app(load_search(folder))


def app_from_environment() -> Starlette:
    """The service of the folder that SKHASH_SEARCH names.

    It is for servers with several processes.
    """
    return app_of(os.environ["SKHASH_SEARCH"])


def main() -> None:
    """Load a search and run the service until interrupted."""
    parser = argparse.ArgumentParser(
        description="Serve a saved ImageSearch over HTTP."
    )
    parser.add_argument("folder", help="folder of ImageSearch.save")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="there is no password: see the guide",
    )
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    app = app_of(args.folder)
    uvicorn.run(app, host=args.host, port=args.port, limit_concurrency=200)


if __name__ == "__main__":
    main()
