"""
Saving a hasher, and serving it
===============================

After training, how does another program use the hasher, and does it need
torch? A hasher is saved as plain data. It can be exported to ONNX for programs
that only make codes, without torch. A search with its photos is saved as a
folder, which a service uses to answer over HTTP::

    pip install "scikit-hash[examples,onnx,serve]"
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import atexit
import json
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import skhash
from skhash import ImageFeatures, ImageSearch, TagITQ
from skhash.codes import pack
from skhash.datasets import make_social_images

# %%
# A hasher
# --------
# It learns from 400 photos and their tags; 8 others are queries.

photos = make_social_images(408, random_state=0)
new, known = photos.images[:8], photos.images[8:]
network = ImageFeatures("efficientnet_lite0", image_size=96)
hasher = make_pipeline(network, TagITQ(64, random_state=0))
hasher.fit(known, photos.tags[8:])
codes = pack(hasher.transform(new))

# %%
# Save and load
# -------------
# :func:`skhash.save` writes one file, :func:`skhash.load` reads it. The file
# contains no pickle, and nothing in it is executed. So you can load files from
# other people.

temporary = TemporaryDirectory()
folder = Path(temporary.name)
skhash.save(hasher, folder / "hasher.skhash")
loaded = skhash.load(folder / "hasher.skhash")
print("the same codes:", np.array_equal(codes, pack(loaded.transform(new))))

# %%
# Without torch
# -------------
# :func:`skhash.to_onnx`, which needs torch 2.13 or newer, writes network and
# hash function as one ONNX model, from pixels to packed codes. The model also
# contains the settings for preparing photos.

skhash.to_onnx(hasher, folder / "hasher.onnx")

# %%
# A program that makes codes needs NumPy, Pillow and onnxruntime. This one runs
# in a separate process, and at the end it lists which other libraries are
# loaded. :doc:`/user_guide/persistence` has the version for photos of a
# camera, which may be large or rotated.

program = """
import json, sys
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["skhash"])
wanted = about["preprocessing"]
size, bleed = (wanted["size"],) * 2, (1 - wanted["crop"]) / 2
method = Image.Resampling[wanted["interpolation"].upper()]
codes = []
for file in sys.argv[2:]:
    photo = Image.open(file).convert("RGB")
    pixels = np.asarray(ImageOps.fit(photo, size, method, bleed))
    codes += session.run(None, {"images": pixels[None]})[0].tolist()
loaded = sorted({"skhash", "sklearn", "torch"} & sys.modules.keys())
print(json.dumps({"codes": codes, "loaded": loaded}))
"""

files = [str(folder / f"{i}.png") for i in range(len(new))]
for file, pixels in zip(files, new, strict=True):
    Image.fromarray(pixels).save(file)
finished = subprocess.run(
    [sys.executable, "-c", program, str(folder / "hasher.onnx"), *files],
    capture_output=True,
    check=True,
    text=True,
)
answer = json.loads(finished.stdout)
print("of skhash, sklearn and torch it has loaded:", answer["loaded"])
print("the same codes:", np.array_equal(codes, answer["codes"]))
for name in ("hasher.skhash", "hasher.onnx"):
    print(f"{name:14} {(folder / name).stat().st_size / 2**20:.0f} MiB")

# %%
# A saved search
# --------------
# :class:`~skhash.ImageSearch` keeps codes, ids and tags of the photos together
# with the hasher. The hasher is already fitted, so it is frozen. Clients of
# the service see the ids, so these should be names, not paths of the server.

ids = [f"photo-{i:03}" for i in range(len(known))]
search = ImageSearch(FrozenEstimator(hasher))
search.fit(known, photos.tags[8:], ids)
search.save(folder / "search")
print(sorted(file.name for file in (folder / "search").iterdir()))

# %%
# A service
# ---------
# :ref:`sphx_glr_auto_examples_serve_search.py` is a service in one file. Here
# it runs on a free port of this machine, until the end of this page.

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
found = find_spec("serve_search")  # the file next to this one
if found is None or found.origin is None:
    raise FileNotFoundError("serve_search.py must be next to this page's file")
command = [sys.executable, found.origin, str(folder / "search")]
command += ["--port", str(port)]
with (folder / "log").open("w") as log:
    service = subprocess.Popen(command, stdout=log, stderr=log)
atexit.register(service.kill)  # in case this page fails before its end


def ask(path: str, body: bytes | None = None) -> Any:
    """The answer of the service."""
    url = f"http://127.0.0.1:{port}/{path}"
    try:
        with urlopen(Request(url, body), timeout=30) as response:
            return json.load(response)
    except HTTPError as error:
        return error.code, json.load(error)


def wait() -> Any:
    """Wait until the service answers, at most two minutes."""
    for _ in range(240):
        if service.poll() is not None:
            break
        try:
            return ask("health")
        except URLError:
            time.sleep(0.5)
    service.kill()
    raise RuntimeError((folder / "log").read_text())


print(wait())

# %%
# The input is photos or words, the output is JSON. For data that is not a
# photo the service answers with an error.

for hit in ask("search/photo?n=3", Path(files[0]).read_bytes()):
    print(hit)
for hit in ask("search/words?words=dog&words=beach&n=3"):
    print(hit)
print(ask("search/photo", b"no photo"))

# %%
# Each row shows a photo that was sent and the six photos that the service
# found. The numbers are those of the bits that differ.

figure, axes = plt.subplots(4, 7, figsize=(8, 5), layout="constrained")
for row, file, pixels in zip(axes, files, new, strict=False):
    hits = ask("search/photo?n=6", Path(file).read_bytes())
    row[0].imshow(pixels)
    row[0].set_title("sent", fontsize=9, fontweight="bold")
    for ax, hit in zip(row[1:], hits, strict=True):
        ax.imshow(known[ids.index(hit["id"])])
        ax.set_title(f"{hit['distance']:g}", fontsize=9)
    for ax in row:
        ax.set(xticks=[], yticks=[])
figure.suptitle("Photos sent over HTTP, and what came back")
plt.show()

service.terminate()
service.wait(30)
temporary.cleanup()

# %%
# What to take from this
# ----------------------
# - Python programs: :func:`skhash.save` and :func:`skhash.load`, not pickle.
# - Programs that only make codes: :func:`skhash.to_onnx`. A bit may differ if
#   its value is 0 up to rounding, about one bit in some million.
# - Programs in any language: a service, which reads a saved
#   :class:`~skhash.ImageSearch`. It has limits but no passwords; read
#   :doc:`/user_guide/serving` before you connect it to the internet.
