"""
How do I search my own folder of photos?
========================================

A folder of photos and a table of their tags are all it takes. This tutorial
makes such a folder, and goes from there: read it, learn, search by a photo and
by words, keep the search, use it in another program, add and remove photos,
and share what was found. With a folder of your own, begin at the second step.
It needs ``pip install "scikit-hash[examples]"``, and nothing is downloaded
while it runs.
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
# 300 rendered photos in one subfolder per year stand for yours. The table has
# a row for each photo, with its file and its tags; a CSV file as a spreadsheet
# writes it. (Without a table the keywords count that photos carry inside, as
# Lightroom, digiKam and others write them.)

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
# :func:`~skhash.datasets.load_tagged_images` matches files and rows. It says
# so if a photo of the table is missing. A photo is known by its id: here its
# place in the folder, which stays the same when the folder moves.

photos = load_tagged_images(folder, home / "tags.csv")
files = [Path(file) for file in photos.images]
ids = [file.relative_to(folder).as_posix() for file in files]
print(len(photos.images), "photos,", len(photos.tag_names), "tags")
print(ids[1], photos.tags[1])

# %%
# Learn
# -----
# A network that has learned from ImageNet looks at each photo; a hasher learns
# from the tags how to make 64 bits of what the network sees. That is all that
# is kept of a photo: eight bytes, its id and its tags. It takes some seconds
# for 300 photos, and minutes for ten thousand.

search = ImageSearch().fit(photos.images, photos.tags, ids)
print(len(search), "photos,", search.photos_.codes.shape[1], "bytes each")

# %%
# Search by a photo
# -----------------
# By one of the folder (``query_ids``), or by any other file (``query``). The
# number above a photo is in how many of the 64 bits it differs.

found = search.query_ids(["2005/000.jpg", "2006/107.jpg"], n_neighbors=6)
for hit in found[0][:3]:
    print(hit.id, hit.distance, hit.tags)
figure = found.plot()

# %%
# And one that is not rendered: Chelsea, a cat by Stéfan van der Walt (CC0,
# from scikit-image). The nearest photos show no cats, and the numbers say so:
# 17 bits and more, where the answers above begin with 6 and 11. Nothing in
# this folder is like a real photo.

chelsea = home / "newcomers" / "chelsea.jpg"
chelsea.parent.mkdir()
Image.fromarray(skimage.data.chelsea()).save(chelsea)
figure = search.query([chelsea], n_neighbors=6).plot()

# %%
# Search by words
# ---------------
# Words have codes as well, and so photos are found that show what the words
# say, whether anybody tagged them so or not. With ``having`` only those are
# found that have the tag. Two words in one list are one question.

found = search.query_tags([["beach", "sunset"], ["dog"]], n_neighbors=6)
figure = found.plot()

# %%

tagged = search.query_tags([["snow"]], n_neighbors=3, having="mountain")
for hit in tagged[0]:
    print(hit.id, hit.tags)

# %%
# Keep it
# -------
# A folder of plain files, without pickle. The photos stay where they are; what
# is large is the network.

search.save(home / "search")
for path in sorted((home / "search").rglob("*")):
    if path.is_file():
        print(f"{path.stat().st_size:10,} bytes  {path.name}")

# %%
# In another program
# ------------------
# A new process, which knows nothing but the folder of the search. The same on
# the command line is ``scikit-hash words search "beach sunset"``.

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
# Photos come and go
# ------------------
# Nothing is learned anew for that; fit again when the photos have become
# others. ``update`` is for photos whose tags have changed.

search.add([chelsea], [["chelsea"]], ["chelsea.jpg"])
print(len(search), "photos, the last of them", search.ids_[-1])

search.update([chelsea], [["chelsea", "cat", "portrait"]], ["chelsea.jpg"])
print("its tags:", search.tags_of("chelsea.jpg")[0])

search.remove(["2005/000.jpg", "2005/001.jpg"])
print(len(search), "photos;", "2005/000.jpg" in search)

# %%
# A change is kept when the search is saved again.

search.save(home / "search")

# %%
# Tags for photos without any
# ---------------------------
# The photos most like it vote.

untagged = [i for i, tags in enumerate(photos.tags) if not tags][:3]
suggestions = search.suggest_tags(photos.images[untagged], n_tags=3)
for i, suggested in zip(untagged, suggestions, strict=True):
    print(ids[i], ", ".join(f"{tag} {score:.2f}" for tag, score in suggested))

# %%
# Share
# -----
# Answers as a page: one file for a browser, with small copies of the photos in
# it. The search itself as an archive, to be unpacked and loaded wherever
# scikit-hash is installed: it holds ids, tags and codes, and where the files
# were (``photos.jsonl``), but no photo.

found.to_html(home / "answers.html", title="Beaches and dogs")
archive = shutil.make_archive(str(home / "search"), "zip", home / "search")
for path in (home / "answers.html", Path(archive)):
    print(f"{path.name}: {path.stat().st_size / 1000:,.0f} kB")

# %%
# What to take from this
# ----------------------
# - ``ImageSearch().fit(files, tags)`` is all there is to learn; ``query``,
#   ``query_tags`` and ``query_ids`` ask.
# - Distances say how far to believe an answer: compare them with those of
#   answers that are right.
# - A search is a small folder. Save it again when photos have come or gone.
#
# Go on with :doc:`/user_guide/image_search` for all that a search can do, with
# :doc:`/user_guide/choosing` for other hashers, and with
# :doc:`/user_guide/serving` to answer over HTTP.
# :doc:`/user_guide/command_line` does all of this without Python.

shutil.rmtree(home)  # it was for this page alone

# sphinx_gallery_thumbnail_number = 3
