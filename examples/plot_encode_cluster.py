"""
Encoding photos on a cluster
============================

How do I encode photos that are too many for one process or one machine?
:func:`skhash.encode` writes codes to Parquet files, shard by shard, with
processes of one machine or workers of a Dask cluster. After an interruption it
continues with the missing shards. The codes do not depend on the machine::

    pip install "scikit-hash[dask,examples]"
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from distributed import Client, get_task_stream
from distributed.deploy.subprocess import SubprocessCluster
from PIL import Image
from pyarrow.parquet import read_table
from sklearn.pipeline import make_pipeline

import skhash
from skhash import HammingNeighbors, ImageFeatures, TagITQ
from skhash.codes import pack
from skhash.datasets import make_social_images

# %%
# A hasher and photos
# -------------------
# The hasher learns from 200 photos; 300 others are files in a folder. One of
# them is damaged, as often happens among many photos.

temporary = TemporaryDirectory()
folder = Path(temporary.name)
(folder / "photos").mkdir()
data = make_social_images(500, random_state=0)
for i, image in enumerate(data.images[200:]):
    Image.fromarray(image).save(folder / "photos" / f"{i:03}.jpg")
(folder / "photos" / "007.jpg").write_bytes(b"no photo")
photos = sorted((folder / "photos").iterdir())

network = ImageFeatures("efficientnet_lite0", image_size=96)
hasher = make_pipeline(network, TagITQ(64, random_state=0))
hasher.fit(data.images[:200], data.tags[:200])

# %%
# One machine
# -----------
# Two processes, 50 photos per file; with real photos the default of 5,000 per
# file is better. A program that starts processes needs its calls below
# ``if __name__ == "__main__":``.

warnings.filterwarnings("ignore", message=".*cannot be read")  # see below
out = folder / "codes"
report = skhash.encode(hasher, photos, out, shard_size=50, n_jobs=2)
print(report)
for file in sorted(out.iterdir()):
    print(f"{file.stat().st_size:9,} bytes  {file.name}")

# %%
# The damaged photo has no code. It is listed with the reason.

for row in read_table(out / "unreadable-00000.parquet").to_pylist():
    print(Path(row["id"]).name, "-", row["reason"].replace(row["id"], "..."))

# %%
# Interrupted
# -----------
# We simulate a power failure after 170 photos. Only complete shards are on the
# disk. The same call again computes only the missing shards.


def until_power_fails() -> Iterator[Path]:
    """Photos, with an error after some of them."""
    yield from photos[:170]
    raise RuntimeError("the power failed")


out = folder / "again"
try:
    skhash.encode(hasher, until_power_fails(), out, shard_size=50)
except RuntimeError as error:
    print(error)
print([file.name for file in sorted(out.glob("shard*"))])

report = skhash.encode(hasher, photos, out, shard_size=50)
print(f"{report.n_resumed} of {report.n_shards} shards were there")

# %%
# A cluster
# ---------
# The same call takes a client of a Dask cluster, or the address of its
# scheduler. This cluster is small: a scheduler and two workers, each a process
# of this machine with one thread. With several machines, the folder must have
# the same name on all of them.

options: dict[str, Any] = {
    "threads_per_worker": 1,
    "worker_class": "distributed.Worker",  # without a second, watching process
    "dashboard_address": None,
}
out = folder / "dask"
with (
    SubprocessCluster(n_workers=2, **options) as cluster,
    Client(cluster) as client,
):
    client.wait_for_workers(2, timeout=120)
    stream = get_task_stream(client)
    with stream:
        skhash.encode(hasher, photos, out, shard_size=50, client=client)

# %%
# The same codes
# --------------
# :func:`skhash.read_codes` reads all shards, in the order of the photos;
# :func:`skhash.iter_codes` reads one shard at a time. Codes are packed, eight
# bits per byte. ``transform`` gives the same codes.

ids, codes = skhash.read_codes(folder / "dask")
for name in ("codes", "again"):
    other_ids, other_codes = skhash.read_codes(folder / name)
    same = np.array_equal(codes, other_codes)
    print(name, np.array_equal(ids, other_ids) and same)
print("transform", np.array_equal(codes, pack(hasher.transform(ids))))

search = HammingNeighbors(3, packed=True).fit(codes, ids=ids)
query = pack(hasher.transform(data.images[:1]))
print([Path(name).name for name in search.predict(query)[0]])

# %%
# Who did what
# ------------
# Each bar is a shard. The first shard of a worker takes longest, because the
# process then loads torch, the hasher and its network. With large shards this
# matters less; with small shards less work is lost when a worker dies.

start = min(task["startstops"][0]["start"] for task in stream.data)
workers = sorted({task["worker"] for task in stream.data})
figure, ax = plt.subplots(figsize=(8, 2.2), layout="constrained")
for i, task in enumerate(stream.data):
    (span,) = (s for s in task["startstops"] if s["action"] == "compute")
    left, width = span["start"] - start, span["stop"] - span["start"]
    row = workers.index(task["worker"])
    ax.barh(row, width, left=left, color=f"C{i}", edgecolor="white")
ax.set_yticks([0, 1], ["worker 0", "worker 1"])
ax.set_ylim(1.5, -0.5)
ax.set(xlabel="seconds", title="Six shards of 50 photos, two processes")
plt.show()

temporary.cleanup()

# %%
# What to take from this
# ----------------------
# - The call is the same: use ``n_jobs=`` for the cores of a machine, and
#   ``client=`` for a cluster.
# - After an interruption make the same call again. A folder of another hasher
#   or of other photos raises an error.
# - Unreadable photos are listed with the reason, next to the codes.
# - Many engines can read Parquet files of ids and codes; ``add_parquet`` of
#   :class:`~skhash.neighbors.DuckDBStore` reads these files directly.
# - :doc:`/user_guide/encoding` has figures for 100 million photos, and Ray and
#   Spark.
