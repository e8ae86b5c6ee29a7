"""
How do I search my own folder of photos?
========================================

You need a folder of photos and a table of their tags. This tutorial makes such
a folder. Then it shows how to read the folder, learn, search by a photo and by
words, save the search, use it in another program, add and remove photos, and
share the results. If you have a folder, begin at the second step. It needs
``pip install "scikit-hash[examples]"``; nothing is downloaded while it runs.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import skimage.data
from PIL import Image

from skhash import ImageSearch
from skhash.datasets import load_tagged_images, make_social_images

# %%
# A folder and a table
# --------------------
# Instead of your photos we use 300 rendered ones, in one subfolder per year.
# The table is a CSV file, as from a spreadsheet, with one row per photo: its
# file and its tags. (Without a table, keywords inside the photos are used, as
# written by Lightroom, digiKam and others.)

home = Path(mkdtemp(prefix="skhash-"))
folder = home / "photos"
rendered = make_social_images(300, image_size=96, random_state=0)
with (home / "tags.csv").open("w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["file", "tags"])
    for i, pixels in enumerate(rendered.images):
        name = f"{2005 + i // 100}/{i:03}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, quality=90)
        table.writerow([name, ", ".join(rendered.tags[i])])

lines = (home / "tags.csv").read_text(encoding="utf-8").splitlines()
print(*lines[:5], sep="\n")

# %%
# Read it
# -------
# :func:`~skhash.datasets.load_tagged_images` matches files and rows, and
# reports photos that are missing. Each photo has an id: here its path inside
# the folder, which stays the same when the folder moves.

photos = load_tagged_images(folder, home / "tags.csv")
files = [Path(file) for file in photos.images]
ids = [file.relative_to(folder).as_posix() for file in files]
print(len(photos.images), "photos,", len(photos.tag_names), "tags")
print(ids[1], photos.tags[1])

# %%
# Learn
# -----
# A network trained on ImageNet computes features of each photo. A hasher
# learns from the tags to turn the features into 64 bits. The search keeps only
# eight bytes, the id and the tags of each photo. This takes some seconds for
# 300 photos, and minutes for ten thousand.

search = ImageSearch().fit(photos.images, photos.tags, ids)
print(len(search), "photos,", search.photos_.codes.shape[1], "bytes each")

# %%
# Search by a photo
# -----------------
# The query is a photo of the folder (``query_ids``) or any other file
# (``query``). The number above a photo is the number of bits, of 64, that
# differ.

found = search.query_ids(["2005/000.jpg", "2006/107.jpg"], n_neighbors=6)
for hit in found[0][:3]:
    print(hit.id, hit.distance, hit.tags)
figure = found.plot()

# %%
# The next query is a real photo: Chelsea, a cat by Stéfan van der Walt (CC0,
# from scikit-image). The nearest photos show no cats. The distances show this:
# they are 17 bits and more, while the results above begin with 6 and 11. No
# photo in this folder is similar to a real photo.

chelsea = home / "newcomers" / "chelsea.jpg"
chelsea.parent.mkdir()
Image.fromarray(skimage.data.chelsea()).save(chelsea)
figure = search.query([chelsea], n_neighbors=6).plot()

# %%
# Search by words
# ---------------
# Words have codes as well. So a search by words finds photos by their content,
# also photos without these tags. With ``having`` it finds only photos with the
# tag. Two words in one list are one query.

found = search.query_tags([["beach", "sunset"], ["dog"]], n_neighbors=6)
figure = found.plot()

# %%

tagged = search.query_tags([["snow"]], n_neighbors=3, having="mountain")
for hit in tagged[0]:
    print(hit.id, hit.tags)

# %%
# Save it
# -------
# The search is saved as a folder of plain files, without pickle. It does not
# contain the photos. The largest file is the network.

search.save(home / "search")
for path in sorted((home / "search").rglob("*")):
    if path.is_file():
        print(f"{path.stat().st_size:10,} bytes  {path.name}")

# %%
# In another program
# ------------------
# A new process needs only the folder of the search. On the command line the
# same query is ``scikit-hash words search "beach sunset"``.

program = """
import sys
from skhash import ImageSearch

search = ImageSearch.load(sys.argv[1])
print(search.query_tags([["beach", "sunset"]], n_neighbors=3))
"""
done = subprocess.run(
    [sys.executable, "-c", program, str(home / "search")],
    capture_output=True,
    text=True,
    check=True,
)
print(done.stdout)

# %%
# Add and remove photos
# ---------------------
# This does not need a new fit. Fit again when the kind of photos has changed.
# Use ``update`` for photos whose tags have changed.

search.add([chelsea], [["chelsea"]], ["chelsea.jpg"])
print(len(search), "photos, the last of them", search.ids_[-1])

search.update([chelsea], [["chelsea", "cat", "portrait"]], ["chelsea.jpg"])
print("its tags:", search.tags_of("chelsea.jpg")[0])

search.remove(["2005/000.jpg", "2005/001.jpg"])
print(len(search), "photos;", "2005/000.jpg" in search)

# %%
# Save the search again to keep the changes.

search.save(home / "search")

# %%
# Tags for photos without any
# ---------------------------
# The most similar photos vote for their tags.

untagged = [i for i, tags in enumerate(photos.tags) if not tags][:3]
suggestions = search.suggest_tags(photos.images[untagged], n_tags=3)
for i, suggested in zip(untagged, suggestions, strict=True):
    print(ids[i], ", ".join(f"{tag} {score:.2f}" for tag, score in suggested))

# %%
# Share
# -----
# Results can be saved as one HTML file, with small copies of the photos. The
# search can be shared as an archive, to be unpacked and loaded on any machine
# with scikit-hash. It contains ids, tags, codes and the paths of the files
# (``photos.jsonl``), but no photos.

found.to_html(home / "answers.html", title="Beaches and dogs")
archive = shutil.make_archive(str(home / "search"), "zip", home / "search")
for path in (home / "answers.html", Path(archive)):
    print(f"{path.name}: {path.stat().st_size / 1000:,.0f} kB")

# %%
# What to take from this
# ----------------------
# - ``ImageSearch().fit(files, tags)`` learns; ``query``, ``query_tags`` and
#   ``query_ids`` search.
# - A small distance means a reliable result: compare distances with those of
#   correct results.
# - A search is a small folder. Save it again after photos were added or
#   removed.
#
# Continue with :doc:`/user_guide/image_search` for everything that a search
# can do, with :doc:`/user_guide/choosing` for other hashers, and with
# :doc:`/user_guide/serving` for a service over HTTP.
# :doc:`/user_guide/command_line` does all of this without Python.

shutil.rmtree(home)  # it was only for this page

# sphinx_gallery_thumbnail_number = 3
