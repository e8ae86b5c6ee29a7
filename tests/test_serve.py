"""The search service of the examples, by real HTTP on loopback."""

import asyncio
import http.client
import importlib.util
import io
import json
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image, TiffImagePlugin
from sklearn.pipeline import make_pipeline

from skhash import ITQ, ImageSearch, TagITQ
from skhash.datasets import make_social_images
from skhash.networks import ImageFeatures

SCRIPT = Path(__file__).parents[1] / "examples" / "serve_search.py"
_N_CLIENTS = 16
# The service hides these two itself; pytest resets that for each test.
pytestmark = [
    pytest.mark.filterwarnings("ignore:tags has words"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("serve_search", SCRIPT)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def photos():
    return make_social_images(150, image_size=48, random_state=0)


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """A saved search of photos whose ids look like names of files."""
    hasher = make_pipeline(
        ImageFeatures("efficientnet_lite0", image_size=48), TagITQ(16, random_state=0)
    )
    ids = [f"more/é {i}.png" for i in range(len(photos.images))]
    folder = tmp_path_factory.mktemp("searches") / "search"
    ImageSearch(hasher).fit(photos.images, photos.tags, ids).save(folder)
    return folder


@pytest.fixture(scope="module")
def search(script, folder):
    return script.load_search(folder)


def untagged_search(**options):
    """A search by a random network, not fitted."""
    features = ImageFeatures("resnet18", weights=None, image_size=16, random_state=0, **options)
    return ImageSearch(make_pipeline(features, ITQ(8, random_state=0)))


@contextmanager
def serving(app):
    """Run a service on a free port of loopback; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(scope="module")
def address(script, search):
    """Address of a service with small limits."""
    limits = script.Limits(photo_bytes=100_000, words_bytes=2_000, pixels=50_000, neighbors=20)
    with serving(script.make_app(search, limits)) as address:
        yield address


@pytest.fixture
def client(address):
    """A client of a service that still answers afterwards."""
    host, port = address
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
        yield client
        assert client.get("/health").json() == {"status": "ok", "n_photos": 150}


def encoded(pixels, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def hits(result):
    """What the service must answer for the one query of a result."""
    return [{"id": hit.id, "distance": hit.distance, "tags": hit.tags} for hit in result[0]]


def is_refused(response, status):
    """Whether an answer is an error, which names no file and no line of code."""
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    assert list(response.json()) == ["error"]
    assert response.headers["content-type"] == "application/json"
    assert "Traceback" not in error and "/" not in error.replace("application/", "")
    return error


def raw_exchange(address, request, seconds=20):
    """Send bytes as they are; the status, and the content, of the answer."""
    with socket.create_connection(address, timeout=seconds) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()


# Answers.


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_answered_like_a_direct_query(client, search, photos, form):
    content = encoded(photos.images[3], form)
    expected = hits(search.query(Image.open(io.BytesIO(content)), 5))

    as_body = client.post("/search/photo?n=5", content=content)
    in_a_form = client.post("/search/photo?n=5", files={"photo": ("x.exe", content, "text/plain")})

    assert as_body.json() == in_a_form.json() == expected
    assert as_body.status_code == in_a_form.status_code == 200
    assert len(expected) == 5


def test_a_large_photo_in_a_form_is_whole(script, search, photos):
    """Forms keep parts of more than a megabyte in files."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)
    content = encoded(noise)
    assert len(content) > 2_000_000
    with serving(script.make_app(search)) as (host, port):
        url = f"http://{host}:{port}/search/photo"
        response = httpx.post(url, files={"photo": content}, timeout=30)
    assert response.json() == hits(search.query(Image.fromarray(noise)))


def test_words_are_answered_like_a_direct_query(client, search, photos):
    words = list(photos.tags[0][:2])
    expected = hits(search.query_tags([words], 7))

    in_url = client.get("/search/words", params={"words": words, "n": 7})
    in_json = client.post("/search/words", json={"words": words, "n": 7})
    in_both = client.post("/search/words?n=7", json={"words": words})
    some_unknown = json.dumps({"words": [*words, "?!\ud800"], "n": 7})
    with_unknown = client.post("/search/words", content=some_unknown)

    assert in_url.json() == in_json.json() == in_both.json() == with_unknown.json() == expected


def test_a_photo_of_the_search_is_named_by_its_id(client, search):
    name = search.ids_[8]
    expected = hits(search.query_ids(name))

    assert client.get(f"/search/like/{name}").json() == expected
    assert client.get("/search/like/" + name.replace("/", "%2F")).json() == expected
    assert name not in [hit["id"] for hit in expected]


def test_ids_that_are_numbers(script, photos):
    search = untagged_search().fit(photos.images[:20])
    with serving(script.make_app(search)) as (host, port):
        url = f"http://{host}:{port}/search"
        assert httpx.get(f"{url}/like/7").json() == hits(search.query_ids(7))
        assert is_refused(httpx.get(f"{url}/like/20"), 404)
        assert is_refused(httpx.get(f"{url}/words?words=sea"), 422)  # fitted without tags


def test_only_photos_with_some_tags_are_found(client, search, photos):
    tag = photos.tags[0][0]
    content = encoded(photos.images[3])
    expected = hits(search.query(Image.fromarray(photos.images[3]), having=tag))
    assert expected

    for response in (
        client.post("/search/photo", params={"having": tag}, content=content),
        client.post("/search/photo", params={"having": tag}, files={"photo": content}),
    ):
        assert response.json() == expected
    named = client.post("/search/words", json={"words": [tag], "having": [tag]}).json()
    assert named == hits(search.query_tags([[tag]], having=[tag]))
    assert client.get(f"/search/words?words={tag}&having=nobody has this").json() == []


def test_sixteen_clients_at_a_time_get_the_answers_of_direct_queries(address, search, photos):
    host, port = address
    n_each = 3
    start = threading.Barrier(_N_CLIENTS)

    def ask(number):
        answers = []
        start.wait()
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
            for i in range(number, number + n_each):
                name, words = search.ids_[i], list(photos.tags[i][:3])
                answers.append(client.post("/search/photo", content=encoded(photos.images[i])))
                answers.append(client.post("/search/words", json={"words": words or ["sea"]}))
                answers.append(client.get(f"/search/like/{name}"))
        return [(answer.status_code, answer.json()) for answer in answers]

    with ThreadPoolExecutor(_N_CLIENTS) as pool:
        answers = list(pool.map(ask, range(_N_CLIENTS)))

    for number, of_client in enumerate(answers):
        expected = []
        for i in range(number, number + n_each):
            expected.append(hits(search.query(Image.fromarray(photos.images[i]))))
            expected.append(hits(search.query_tags([list(photos.tags[i][:3]) or ["sea"]])))
            expected.append(hits(search.query_ids(search.ids_[i])))
        assert of_client == [(200, answer) for answer in expected]


def test_nothing_says_where_files_are(script, photos, tmp_path):
    """Neither answers nor errors; and ids that are absolute paths are not served at all."""
    files = []
    for i, pixels in enumerate(photos.images[:12]):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(files[-1])
    search = untagged_search().fit(files, ids=[f"photo {i}" for i in range(12)])
    with serving(script.make_app(search)) as (host, port):
        response = httpx.get(f"http://{host}:{port}/search/like/photo 3")
        assert len(response.json()) == 10
        assert str(tmp_path) not in response.text

    untagged_search().fit(files).save(tmp_path / "search")
    with pytest.raises(SystemExit, match="absolute paths"):
        script.load_search(tmp_path / "search")


def test_uploads_leave_no_features_behind(script, photos, tmp_path):
    cache = tmp_path / "cache"
    search = untagged_search(cache=cache).fit(photos.images[:12])
    search.hasher_[0].num_workers = 1
    search.save(tmp_path / "search")
    before = sorted(cache.rglob("*"))

    served = script.load_search(tmp_path / "search")

    assert served.hasher_[0].num_workers == 0
    served.query(photos.images[50:51])
    assert sorted(cache.rglob("*")) == before


def test_a_search_of_features_is_refused(script, tmp_path):
    rng = np.random.default_rng(0)
    ImageSearch(ITQ(4, random_state=0)).fit(rng.normal(size=(20, 6))).save(tmp_path)
    with pytest.raises(SystemExit, match="searches features"):
        script.load_search(tmp_path)


# What is no photo.


def png_that_claims(width, height):
    """A PNG of few bytes with a header that promises many pixels."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000)))
        + chunk(b"IEND", b"")
    )


_PIXELS = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
_JPEG, _PNG, _WEBP = (encoded(_PIXELS, form) for form in ("JPEG", "PNG", "WEBP"))
_MALFORMED = {
    "empty": (b"", 415),
    "text": (b"not a photo " * 50, 415),
    "not Unicode": (b"\xff\xfe\x80\x81" * 50, 415),
    "NUL bytes": (bytes(1000), 415),
    "GIF": (encoded(_PIXELS, "GIF"), 415),
    "BMP": (encoded(_PIXELS, "BMP"), 415),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>', 415),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n", 415),
    "12 bytes of a JPEG": (_JPEG[:12], 422),
    "half a JPEG": (_JPEG[: len(_JPEG) // 2], 422),
    "half a PNG": (_PNG[: len(_PNG) // 2], 422),
    "half a WebP": (_WEBP[: len(_WEBP) // 2], 422),
    "a PNG that lies": (png_that_claims(200, 200), 422),
    "more pixels than allowed": (encoded(np.zeros((251, 200), np.uint8)), 413),
    "a bomb": (png_that_claims(13_000, 13_000), 413),
    "a bomb that Pillow refuses": (png_that_claims(60_000, 60_000), 413),
    "more bytes than allowed": (_JPEG + bytes(100_001 - len(_JPEG)), 413),
}


@pytest.mark.parametrize(("content", "status"), _MALFORMED.values(), ids=_MALFORMED)
def test_what_is_no_photo_is_refused(client, content, status):
    file = ("photo.jpg", content, "image/jpeg")
    headers = {"content-type": "image/jpeg"}

    is_refused(client.post("/search/photo", content=content, headers=headers), status)
    is_refused(client.post("/search/photo", files={"photo": file}), status)


def test_python_keeps_no_warning_of_a_damaged_photo(script, search, monkeypatch):
    exif = Image.Exif()
    exif[0x010E] = "a text of some length"
    content = encoded(_PIXELS, "JPEG", exif=exif)
    place = content.index(struct.pack(">HH", 0x010E, 2)) + 4
    damaged = content[:place] + struct.pack(">I", 10**6) + content[place + 4 :]
    kept: dict[Any, Any] = {}
    monkeypatch.setattr(TiffImagePlugin, "__warningregistry__", kept, raising=False)
    warnings.simplefilter("default")  # as Python does; pytest resets it

    script.make_app(search)
    script.open_photo(damaged, 50_000).getexif()

    assert kept.keys() <= {"version"}


def test_the_largest_photo_allowed_is_taken(client):
    content = encoded(np.zeros((250, 200), np.uint8))  # 50,000 pixels
    padded = content + bytes(100_000 - len(content))
    assert client.post("/search/photo", content=padded).status_code == 200


def test_bytes_are_counted_whatever_the_headers_say(address, client):
    head = b"POST /search/photo HTTP/1.1\r\nHost: x\r\n"
    # It is refused by what it announces, before any of it has come; curl asks so.
    announced = head + b"Content-Length: 10000000000\r\nExpect: 100-continue\r\n\r\n"
    part = b"%x\r\n%s\r\n" % (60_000, bytes(60_000))
    chunked = head + b"Transfer-Encoding: chunked\r\n\r\n" + part + part  # and it never ends

    for request in (announced, chunked):
        status, content = raw_exchange(address, request)
        assert status == 413
        assert "100,000 bytes" in json.loads(content)["error"]

    def endless():
        for _ in range(5):
            yield bytes(50_000)

    is_refused(client.post("/search/photo", content=endless()), 413)
    is_refused(client.post("/search/words", content=b"[" * 2_001), 413)


def test_a_body_that_comes_too_slowly_is_not_waited_for(script, search):
    head = b"POST /search/photo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    form = b"Content-Type: multipart/form-data; boundary=b\r\n"
    with serving(script.make_app(search, script.Limits(seconds=0.2))) as address:
        for request in (head + b"\r\nabc", head + form + b"\r\n--b\r\n"):
            status, content = raw_exchange(address, request)
            assert (status, json.loads(content)) == (408, {"error": "the body came too slowly"})


def test_a_client_that_leaves_is_forgotten(address, client, script):
    for _ in range(script.Limits().requests + 1):
        with socket.create_connection(address) as connection:
            connection.sendall(
                b"POST /search/photo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"
            )
    wait_until(lambda: client.get("/search/words?words=").status_code == 422, 10)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", b"--b\r\n", 400),  # no boundary
        ("multipart/form-data; boundary=b", b"", 422),
        ("multipart/form-data; boundary=b", b"\x00\xff garbage", 400),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\n", 400),
        ("Multipart/Form-Data; boundary=b", b"--b--\r\n", 422),
        (
            "multipart/form-data; boundary=b; charset=none-such",
            b'--b\r\nContent-Disposition: form-data; name="photo"\r\n\r\ntext\r\n--b--\r\n',
            400,
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="other"; filename="../../etc/x"\r\n\r\n'
            b"\xff\r\n--b--\r\n",
            422,
        ),
    ],
)
def test_malformed_forms_are_refused(client, kind, body, status):
    is_refused(client.post("/search/photo", content=body, headers={"content-type": kind}), status)


def test_two_photos_are_refused(client, photos):
    content = encoded(photos.images[0])
    files = [("photo", ("a.png", content)), ("photo", ("b.png", content))]
    is_refused(client.post("/search/photo", files=files), 400)


# Questions that make no sense.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"beach",
        b'{"words": ["beach"]',
        b'{"words": ["\xff\xfe"]}',
        b"null",
        b"[" * 1_900,
        b'["beach"]',
        b"{}",
        b'{"words": "beach"}',
        b'{"words": []}',
        b'{"words": [""]}',
        b'{"words": ["\\u200b"]}',
        b'{"words": [3]}',
        b'{"words": [["beach"]]}',
        b'{"words": {"beach": 1}}',
        b'{"words": ["beach"], "n": "5"}',
        b'{"words": ["beach"], "n": true}',
        b'{"words": ["beach"], "n": 5.0}',
        b'{"words": ["beach"], "n": NaN}',
        b'{"words": ["beach"], "n": 1' + b"0" * 1_500 + b"}",
        b'{"words": ["beach"], "having": []}',
        b'{"words": ["beach"], "having": [null]}',
        b'{"words": ["beach"], "k": 5}',
        b'{"words": ["no such word", "\\u0000", "\\ud800"]}',
    ],
)
def test_malformed_questions_are_refused(client, body):
    is_refused(client.post("/search/words", content=body), 422)


@pytest.mark.parametrize("n", ["0", "-1", "21", "1000000000", "9" * 5000, "", "x", "1.0", "1&n=2"])
def test_a_number_out_of_range_is_refused_everywhere(client, search, photos, n):
    tag, content = photos.tags[0][0], encoded(photos.images[0])
    for response in (
        client.get(f"/search/words?words={tag}&n={n}"),
        client.get(f"/search/like/{search.ids_[0]}?n={n}"),
        client.post(f"/search/photo?n={n}", content=content),
    ):
        assert is_refused(response, 422) == "n must be a whole number, 1 to 20"


@pytest.mark.parametrize("n", [0, -1, 21, 10**9])
def test_a_number_out_of_range_is_refused_in_json(client, photos, n):
    asked = {"words": [photos.tags[0][0]], "n": n}
    is_refused(client.post("/search/words", json=asked), 422)


@pytest.mark.parametrize(
    "query", ["words=beach&k=3", "words=", "", "words=beach&having=", "words=%FF", "words=%00"]
)
def test_malformed_urls_are_refused(client, query):
    is_refused(client.get(f"/search/words?{query}"), 422)


@pytest.mark.parametrize(
    "name",
    [
        "none",
        "",
        "..",
        "../../../../etc/passwd",
        "..%2F..%2Fetc%2Fpasswd",
        "%2Fetc%2Fpasswd",
        "%00",
        "more/%C3%A9%200.png%00",
        "%FF%FE",
        "0",
        "-1",
        "C:%5Cboot.ini",
        "x" * 20_000,
    ],
)
def test_unknown_ids_are_not_found(address, client, name):
    request = f"GET /search/like/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode()  # as it is
    status, content = raw_exchange(address, request)
    assert (status, json.loads(content)) == (404, {"error": "there is no photo of this id"})


def test_other_paths_and_methods_are_refused(client):
    is_refused(client.get("/search/photo"), 405)
    is_refused(client.put("/search/photo", content=b"x"), 405)
    is_refused(client.delete("/search/words"), 405)
    is_refused(client.post("/search/like/x"), 405)
    is_refused(client.get("/"), 404)
    is_refused(client.get("/search/photo/../../etc"), 404)
    is_refused(client.get("/docs"), 404)


# Too much at a time, and failures.


class Held:
    """A search whose queries wait until they may go on."""

    def __init__(self, search):
        self.search = search
        self.ids_ = search.ids_
        self.may_go_on = threading.Event()

    def __len__(self):
        return len(self.search)

    def query_ids(self, *args, **kwargs):
        assert self.may_go_on.wait(60)
        return self.search.query_ids(*args, **kwargs)


def test_more_requests_than_can_wait_are_sent_away(script, search):
    held = Held(search)
    limits = script.Limits(requests=3)
    with (
        serving(script.make_app(held, limits, n_threads=1)) as (host, port),
        ThreadPoolExecutor(3) as pool,
    ):
        url = f"http://{host}:{port}"
        path = f"{url}/search/like/{search.ids_[0]}"
        try:
            waiting = [pool.submit(httpx.get, path, timeout=60) for _ in range(3)]
            # One is computed, two wait. The service is not blocked, and says so.
            wait_until(lambda: httpx.post(f"{url}/search/words").status_code == 503)
            refused = httpx.get(path, timeout=60)
            assert is_refused(refused, 503)
            assert refused.headers["retry-after"] == "1"
            assert httpx.get(f"{url}/health").status_code == 200
        finally:
            held.may_go_on.set()
        expected = hits(search.query_ids(search.ids_[0]))
        assert [answer.result().json() for answer in waiting] == [expected] * 3
        assert httpx.get(path, timeout=60).json() == expected


def test_a_failure_is_no_secret_but_its_cause_is(script, search):
    class Broken(Held):
        def query_ids(self, *args, **kwargs):
            raise RuntimeError("/secret/path")

    with serving(script.make_app(Broken(search))) as (host, port):
        url = f"http://{host}:{port}/search/like/{search.ids_[0]}"
        with httpx.Client() as client:
            for _ in range(script.Limits().requests + 1):  # each gives back its turn
                assert is_refused(client.get(url), 500) == "internal error"


def test_a_photo_is_decoded_in_no_thread_of_the_event_loop(script, search, photos):
    threads = []

    class Watched(Held):
        def query(self, *args, **kwargs):
            threads.append(threading.current_thread().name)
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            return self.search.query(*args, **kwargs)

    app = script.make_app(Watched(search), n_threads=1)
    with serving(app) as (host, port):
        content = encoded(photos.images[0])
        assert httpx.post(f"http://{host}:{port}/search/photo", content=content).status_code == 200
    assert len(threads) == 1


@pytest.mark.slow
def test_the_script_serves_a_folder(folder, search):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(SCRIPT), str(folder), "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=SCRIPT.parents[1]
    )
    try:

        def answers():
            assert process.poll() is None, process.stdout.read()
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
            except httpx.ConnectError:
                return False

        wait_until(answers)
        response = httpx.get(f"http://127.0.0.1:{port}/search/like/{search.ids_[5]}")
        assert response.json() == hits(search.query_ids(search.ids_[5]))
    finally:
        process.terminate()
        process.communicate(timeout=30)
