"""encode: shards of codes, by workers that may die."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from torch import nn

import skhash
from skhash import ITQ, GreedyHash, HammingNeighbors, ImageFeatures
from skhash.codes import pack
from skhash.encoding import PhotoEncoder, _encode, encode, iter_codes, read_codes
from skhash.networks import Backbone

pa = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

N_PHOTOS, SIZE = 23, 5  # five shards, the last of 3


class Own(nn.Module):
    """A network that a file of save does not hold the code of."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 6, 3)

    def forward(self, x):
        return self.layer(x)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (N_PHOTOS, 4, 4, 3), np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).resize((40, 32)).save(folder / f"{i:02}.png")
    return sorted(str(path) for path in folder.iterdir())


@pytest.fixture(scope="module")
def hasher(photos):
    features = ImageFeatures("resnet18", weights=None, image_size=32, random_state=0)
    return make_pipeline(features, ITQ(12, random_state=0)).fit(photos)


@pytest.fixture(scope="module")
def network(photos):
    return GreedyHash(
        12, backbone="resnet18", weights=None, image_size=32, max_epochs=1, random_state=0
    ).fit(photos)


@pytest.fixture(scope="module")
def expected(hasher, photos):
    return pack(hasher.transform(photos))


def content(folder):
    """All files of a folder but its lock, and when they were written."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in Path(folder).iterdir()
        if not path.name.startswith(".")
    }


def assert_codes(out, expected, ids):
    found_ids, found = read_codes(out)
    assert found_ids.tolist() == list(ids)
    np.testing.assert_array_equal(found, expected)


def test_codes_are_those_of_transform(hasher, network, photos, tmp_path):
    for estimator in (hasher, network, FrozenEstimator(hasher)):
        out = tmp_path / type(estimator).__name__
        report = encode(estimator, photos, out, shard_size=SIZE)
        assert (report.n_photos, report.n_unreadable, report.n_shards) == (N_PHOTOS, 0, 5)
        assert report.n_resumed == 0
        assert_codes(out, pack(estimator.transform(photos)), photos)


def test_files_are_parquet_of_ids_and_bytes(hasher, photos, expected, tmp_path):
    encode(hasher, photos, tmp_path, ids=range(100, 100 + N_PHOTOS), shard_size=SIZE)
    table = parquet.read_table(sorted(tmp_path.glob("*.parquet")))
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("code").type == pa.binary(2)
    assert table["id"].to_pylist() == list(range(100, 100 + N_PHOTOS))
    assert table["code"].to_pylist() == [row.tobytes() for row in expected]
    sizes = [len(ids) for ids, _ in iter_codes(tmp_path)]
    assert sizes == [5, 5, 5, 5, 3]


def test_codes_go_into_a_search(hasher, photos, tmp_path):
    encode(hasher, photos, tmp_path)
    ids, codes = read_codes(tmp_path)
    index = HammingNeighbors(n_neighbors=1, packed=True, n_bits=12).fit(codes, ids=ids)
    distances, found = index.kneighbors(pack(hasher.transform(photos[3:4])), return_ids=True)
    assert distances[0, 0] == 0
    assert found[0, 0] == photos[3] or (codes == codes[3]).all(axis=1).sum() > 1


def test_photos_may_be_a_folder_or_an_iterator(hasher, photos, expected, tmp_path):
    folder = Path(photos[0]).parent
    encode(hasher, folder, tmp_path / "folder", shard_size=SIZE)
    assert_codes(tmp_path / "folder", expected, photos)
    encode(hasher, map(Path, photos), tmp_path / "iterator", ids=iter(photos), shard_size=SIZE)
    assert_codes(tmp_path / "iterator", expected, photos)


def test_nothing_of_an_iterator_is_read_ahead_of_the_shards_at_work(hasher, photos, tmp_path):
    ahead = []

    def endless():
        for i in range(4 * N_PHOTOS):
            n_done = SIZE * len(list(tmp_path.glob("shard-*")))
            ahead.append(i - n_done)
            yield photos[i % N_PHOTOS]

    ids = range(4 * N_PHOTOS)
    encode(hasher, endless(), tmp_path, ids=ids, shard_size=SIZE)
    assert max(ahead) <= 3 * SIZE


def test_a_shard_of_many_photos_is_computed_in_parts(hasher, photos, tmp_path, monkeypatch):
    seen = []
    encoder = PhotoEncoder.__call__
    monkeypatch.setattr(
        PhotoEncoder, "__call__", lambda self, some: seen.append(len(some)) or encoder(self, some)
    )
    monkeypatch.setattr(_encode, "_AT_A_TIME", 7)
    encode(hasher, photos, tmp_path, batch_size=3)
    assert seen == [6, 6, 6, 5]
    assert len(read_codes(tmp_path)[0]) == N_PHOTOS


def test_batch_size_and_device_reach_the_network(hasher, network, photos, tmp_path, monkeypatch):
    seen = []
    for estimator in (hasher, network, FrozenEstimator(hasher)):
        skhash.save(estimator, tmp_path / "hasher.skhash")
        codes, _ = PhotoEncoder(tmp_path / "hasher.skhash")(photos)
        with monkeypatch.context() as patch:
            patch.setattr(Backbone, "forward", _noting(seen, Backbone.forward))
            encoder = PhotoEncoder(tmp_path / "hasher.skhash", batch_size=7, device="cpu")
            assert encoder.n_bits == 12
            np.testing.assert_array_equal(encoder(photos)[0], codes)
        assert [n for n in seen if n > 1] == [7, 7, 7, 2]
        seen.clear()
        with pytest.raises(ValueError, match="device='abacus'"):
            PhotoEncoder(tmp_path / "hasher.skhash", device="abacus")(photos)


def _noting(seen, forward):
    def noting(self, images):
        seen.append(len(images))
        return forward(self, images)

    return noting


@pytest.fixture
def torn(photos, tmp_path):
    """The photos, of which all of one shard, and two others, cannot be read."""
    folder = tmp_path / "torn"
    folder.mkdir()
    paths = [str(folder / Path(photo).name) for photo in photos]
    for source, path in zip(photos, paths, strict=True):
        os.link(source, path)
    bad = [1, 5, 6, 7, 8, 9, 21]
    for row in bad:
        os.unlink(paths[row])
        if row % 2:
            Path(paths[row]).write_text("no image")
    return paths, bad


def test_unreadable_photos_are_named_beside_the_codes(hasher, network, torn, photos, tmp_path):
    paths, bad = torn
    good = np.setdiff1d(np.arange(N_PHOTOS), bad)
    for estimator in (hasher, network, FrozenEstimator(hasher)):
        out = tmp_path / type(estimator).__name__
        with pytest.warns(UserWarning, match=r"7 of 23 photos .*unreadable-\*\.parquet"):
            report = encode(estimator, paths, out, shard_size=SIZE)
        assert report.n_unreadable == 7
        assert_codes(out, pack(estimator.transform(photos))[good], np.array(paths)[good])
        rows = parquet.read_table(sorted(out.glob("unreadable-*.parquet"))).to_pylist()
        assert [row["id"] for row in rows] == [paths[row] for row in bad]
        assert re.search("No such file", rows[2]["reason"])
        assert re.search("damaged, or in none of the formats", rows[0]["reason"])


def test_a_hasher_that_raises_inside_another_is_told_to_skip(network, torn, photos, tmp_path):
    weakly = skhash.WeaklySupervisedHasher(skhash.DSHHasher(4, max_epochs=1, random_state=0))
    inner = skhash.DSHHasher(
        4, backbone="resnet18", weights=None, image_size=32, max_epochs=1, random_state=0
    ).fit(photos, [i % 2 for i in range(N_PHOTOS)])
    weakly.estimator_ = inner
    skhash.save(weakly, tmp_path / "hasher.skhash")
    paths, bad = torn
    codes, unreadable = PhotoEncoder(tmp_path / "hasher.skhash")(paths)
    assert list(unreadable) == bad
    good = np.setdiff1d(np.arange(N_PHOTOS), bad)
    np.testing.assert_array_equal(codes, pack(inner.transform(np.array(photos)[good])))


def interrupt_after(monkeypatch, n_shards):
    """Have the shard after some fail."""
    done = []
    write = _encode.write_shard

    def failing(folder, shard, codes, unreadable):
        if len(done) == n_shards:
            raise RuntimeError("power cut")
        done.append(shard.number)
        return write(folder, shard, codes, unreadable)

    monkeypatch.setattr(_encode, "write_shard", failing)
    return done


def test_what_is_finished_is_not_done_again(hasher, photos, expected, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(RuntimeError, match="power cut"):
            encode(hasher, photos, tmp_path, shard_size=SIZE)
    before = content(tmp_path)
    assert {"shard-00000.parquet", "shard-00001.parquet"} <= before.keys()
    assert "shard-00002.parquet" not in before
    with pytest.raises(ValueError, match=r"not finished, it has 2 shard"):
        read_codes(tmp_path)
    (tmp_path / "shard-00000.parquet").unlink()
    done = interrupt_after(monkeypatch, None)
    again = skhash.load(tmp_path / "hasher.skhash")
    report = encode(again, photos, tmp_path, shard_size=SIZE)
    assert done == [0, 2, 3, 4]
    assert (report.n_shards, report.n_resumed, report.n_photos) == (5, 1, N_PHOTOS)
    assert content(tmp_path)["shard-00001.parquet"] == before["shard-00001.parquet"]
    assert_codes(tmp_path, expected, photos)
    assert encode(hasher, photos, tmp_path, shard_size=SIZE).n_resumed == 5
    assert done == [0, 2, 3, 4]


def test_an_interrupted_call_with_more_photos_is_not_finished(
    hasher, photos, expected, tmp_path, monkeypatch
):
    encode(hasher, photos[:10], tmp_path, shard_size=SIZE)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(RuntimeError, match="power cut"):
            encode(hasher, photos, tmp_path, shard_size=SIZE)
    with pytest.raises(ValueError, match=r"not finished, it has 3 shard"):
        read_codes(tmp_path)
    encode(hasher, photos, tmp_path, shard_size=SIZE)
    assert_codes(tmp_path, expected, photos)


def test_another_hasher_or_other_photos_are_refused(hasher, network, photos, tmp_path):
    encode(hasher, photos, tmp_path, shard_size=SIZE)
    before = content(tmp_path)
    for changed, fault in [
        ((network, photos), "codes of another hasher"),
        ((hasher, photos[::-1]), r"shard-00000\.parquet has codes of other photos"),
        ((hasher, photos[:-1]), r"shard-00004\.parquet has codes of other photos"),
        ((hasher, photos[:20]), r"shard-00004\.parquet has codes of photos that were not given"),
        ((hasher, photos + photos[:1]), r"shard-00004\.parquet has codes of other photos"),
    ]:
        with pytest.raises(ValueError, match=fault):
            encode(*changed, tmp_path, shard_size=SIZE)
    with pytest.raises(ValueError, match="other photos, or of these with other ids"):
        encode(hasher, photos, tmp_path, ids=range(N_PHOTOS), shard_size=SIZE)
    with pytest.raises(ValueError, match="shard_size=4"):
        encode(hasher, photos, tmp_path, shard_size=4)
    assert content(tmp_path) == before


def test_damage_is_named(hasher, photos, tmp_path, rng):
    encode(hasher, photos, tmp_path, shard_size=SIZE)
    path = tmp_path / "shard-00001.parquet"
    whole = path.read_bytes()
    codes_at = whole.index(read_codes(tmp_path)[1][SIZE : 2 * SIZE].tobytes())
    flipped = bytearray(whole)
    flipped[codes_at] ^= 1
    for damaged in (whole[:-20], b"", bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"shard-00001\.parquet is damaged.*delete it"):
            read_codes(tmp_path)
    # The footer, which has no checksum of its own.
    path.write_bytes(whole)
    expected, n_named = read_codes(tmp_path)[1], 0
    for place in range(len(whole) - 8 - int.from_bytes(whole[-8:-4], "little"), len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            assert_codes(tmp_path, expected, photos)
        except ValueError as error:
            assert "shard-00001.parquet" in str(error)
            n_named += 1
    assert n_named > 100
    path.unlink()
    with pytest.raises(ValueError, match=r"lacks shard-00001\.parquet"):
        read_codes(tmp_path)
    (tmp_path / "encoding.json").write_text("{")
    for call in (lambda: read_codes(tmp_path), lambda: encode(hasher, photos, tmp_path)):
        with pytest.raises(ValueError, match=r"encoding\.json is damaged"):
            call()
    (tmp_path / "encoding.json").unlink()
    with pytest.raises(ValueError, match=r"no folder of skhash\.encode"):
        read_codes(tmp_path)
    with pytest.raises(ValueError, match="shards but no manifest"):
        encode(hasher, photos, tmp_path)


def test_codes_of_two_hashers_are_never_mixed(hasher, photos, expected, tmp_path):
    other = make_pipeline(hasher[0], ITQ(12, random_state=1).fit(hasher[0].transform(photos)))
    out, others = tmp_path / "out", tmp_path / "others"
    for estimator, folder in ((hasher, out), (other, others)):
        encode(estimator, photos, folder, shard_size=SIZE)
    shard = out / "shard-00001.parquet"
    for foreign in (others / shard.name, out / "shard-00000.parquet"):
        shard.write_bytes(foreign.read_bytes())
        for call in (
            lambda: read_codes(out),
            lambda: encode(hasher, photos, out, shard_size=SIZE),
        ):
            with pytest.raises(ValueError, match=r"shard-00001\.parquet is.* another.*delete it"):
                call()
    # The workers' file is that of the call, whatever was there.
    for content_ in ((others / "hasher.skhash").read_bytes(), b"damaged", None):
        (out / "hasher.skhash").unlink()
        if content_ is not None:
            (out / "hasher.skhash").write_bytes(content_)
        shard.unlink()
        _encode._load.cache_clear()
        encode(hasher, photos, out, shard_size=SIZE)
        assert_codes(out, expected, photos)


def test_folders_that_cannot_be_read_are_not_left_out(hasher, photos, tmp_path, close_folder):
    (tmp_path / "photos" / "closed").mkdir(parents=True)
    (tmp_path / "photos" / "a.png").write_bytes(Path(photos[0]).read_bytes())
    close_folder("closed")
    with pytest.raises(PermissionError, match="closed"):
        encode(hasher, tmp_path / "photos", tmp_path / "out")


def test_bad_input_is_named(hasher, photos, tmp_path):
    for photos_, kind, fault in [
        ([], ValueError, "0 photos"),
        (photos[0], TypeError, "existing folder"),
        ([np.zeros((4, 4, 3), np.uint8)], TypeError, r"photos\[0\] is an array"),
        (["a\udcff.jpg"], ValueError, "not Unicode"),
    ]:
        with pytest.raises(kind, match=fault):
            encode(hasher, photos_, tmp_path / "out")
    for ids, kind, fault in [
        (range(22), ValueError, "fewer entries"),
        (range(24), ValueError, "more entries"),
        ([*range(22), "a"], TypeError, "ids"),
        ([0] * 23, ValueError, "must differ"),
        ([*"abcdefghijklmnopqrstuv", "\udc80"], ValueError, r"ids\[22\] is .* not Unicode"),
    ]:
        with pytest.raises(kind, match=fault):
            encode(hasher, photos, tmp_path / str(len(list(tmp_path.iterdir()))), ids=ids)
    with pytest.raises(TypeError, match="takes features, not images: put ImageFeatures"):
        encode(hasher[1], photos, tmp_path / "features")
    with pytest.raises(ValueError, match="shard_size"):
        encode(hasher, photos, tmp_path / "size", shard_size=0)


def test_a_network_of_the_users_own_is_refused(photos, tmp_path):
    hasher = make_pipeline(ImageFeatures(Own(), image_size=16), ITQ(4, random_state=0))
    with pytest.raises(TypeError, match="network of your own, Own"):
        encode(hasher.fit(photos), photos, tmp_path)


def test_progress_has_a_rate_and_what_remains(hasher, photos, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        with pytest.raises(RuntimeError):
            encode(hasher, photos, tmp_path, shard_size=SIZE)
    assert capsys.readouterr().err == ""
    encode(hasher, Path(photos[0]).parent, tmp_path, shard_size=SIZE, verbose=1)
    shown = capsys.readouterr().err
    assert "23/23" in shown
    assert re.search(r"<\d\d:\d\d, .*photo", shown)


def when_shards_are_there(out, n_shards, act):
    """Do something in a thread once a folder has some shards."""

    def watch():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if len(list(Path(out).glob("shard-*"))) >= n_shards:
                return act()
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_killed_process_loses_its_shard_alone(hasher, photos, expected, tmp_path):
    from joblib.externals.loky import get_reusable_executor

    many = photos * 4
    ids = range(len(many))

    def kill_one():
        pid, *_ = get_reusable_executor(max_workers=2, reuse=True)._processes
        os.kill(pid, signal.SIGKILL)

    killer = when_shards_are_there(tmp_path, 1, kill_one)
    with pytest.raises(RuntimeError, match=r"worker process was killed.*call skhash\.encode"):
        encode(hasher, many, tmp_path, ids=ids, shard_size=SIZE, n_jobs=2)
    killer.join()
    before = content(tmp_path)
    n_before = sum(name.startswith("shard") for name in before)
    assert 1 <= n_before < 19
    report = encode(hasher, many, tmp_path, ids=ids, shard_size=SIZE, n_jobs=2)
    assert report.n_resumed == n_before
    after = content(tmp_path)
    assert all(after[name] == before[name] for name in before if name.startswith("shard"))
    assert_codes(tmp_path, np.tile(expected, (4, 1)), ids)
    with pytest.raises(ValueError, match="fewer entries"):
        encode(hasher, photos, tmp_path / "ids", ids=range(12), shard_size=SIZE, n_jobs=2)


@pytest.fixture
def cluster():
    """The address of a scheduler on a process of its own, with two worker processes."""
    pytest.importorskip("dask.distributed")
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    yield SimpleNamespace(process=process, address=process.stdout.readline().strip())
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


CLUSTER = """
if __name__ == "__main__":
    from dask.distributed import LocalCluster
    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


def worker_pids(address):
    from dask.distributed import Client

    with Client(address, set_as_default=False) as client:
        return list(client.run(os.getpid).values())


def test_a_dask_client_that_is_closed_is_named(hasher, photos, tmp_path):
    distributed = pytest.importorskip("dask.distributed")
    with pytest.raises(TypeError, match="client must be a Client"):
        encode(hasher, photos, tmp_path, shard_size=SIZE, client=5)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        client = distributed.Client(cluster, set_as_default=False)

        def some():
            yield from photos
            client.close()
            yield from photos

        ids = range(2 * len(photos))
        for given in (some(), photos * 2):  # closed meanwhile, and before
            with pytest.raises(RuntimeError, match=r"client was closed.*call skhash\.encode"):
                encode(hasher, given, tmp_path, ids=ids, shard_size=SIZE, client=client)
    encode(hasher, photos * 2, tmp_path, ids=ids, shard_size=SIZE)
    assert len(read_codes(tmp_path)[0]) == len(ids)


@pytest.mark.slow
def test_dask_gives_the_same_codes_though_a_worker_and_then_the_scheduler_is_killed(
    hasher, photos, expected, tmp_path, cluster
):
    from dask.distributed import Client

    encode(hasher, photos, tmp_path / "few", shard_size=SIZE, client=cluster.address)
    assert_codes(tmp_path / "few", expected, photos)
    with pytest.raises(ValueError, match="fewer entries"):
        encode(hasher, photos, tmp_path / "ids", ids=[1], client=cluster.address)

    many, out = photos * 4, tmp_path / "many"
    ids = range(len(many))
    first, *_ = worker_pids(cluster.address)
    killer = when_shards_are_there(out, 2, lambda: os.kill(first, signal.SIGKILL))
    stopper = when_shards_are_there(out, 9, lambda: os.killpg(cluster.process.pid, signal.SIGKILL))
    with (
        Client(cluster.address, timeout=20, set_as_default=False) as client,
        pytest.raises(RuntimeError, match=r"Dask cluster failed.*call skhash\.encode"),
    ):
        encode(hasher, many, out, ids=ids, shard_size=SIZE, client=client)
    killer.join()
    stopper.join()
    n_before = len(list(out.glob("shard-*")))
    assert 9 <= n_before < 19
    report = encode(hasher, many, out, ids=ids, shard_size=SIZE)
    assert report.n_resumed == n_before
    assert_codes(out, np.tile(expected, (4, 1)), ids)
