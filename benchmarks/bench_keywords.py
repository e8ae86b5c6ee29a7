"""Processor time of reading the keywords that photos carry, beside that of opening the files.

python benchmarks/bench_keywords.py
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from skhash.datasets import load_tagged_images

N_PHOTOS = 2000
PACKET = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject><rdf:Bag>
<rdf:li>sea</rdf:li><rdf:li>sky</rdf:li><rdf:li>Lisbon</rdf:li>
</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""


def write_photos(folder: Path) -> list[Path]:
    """Photos with keywords in XMP and in the field of Windows, 300 KB each."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x9C9E] = "sea;sky\0".encode("utf-16-le")
    Image.fromarray(noise).save(folder / "0.jpg", xmp=PACKET, exif=exif)
    content = (folder / "0.jpg").read_bytes()
    paths = [folder / f"{i}.jpg" for i in range(N_PHOTOS)]
    for path in paths[1:]:
        path.write_bytes(content)
    return paths


def milliseconds(work: Callable[[], object]) -> float:
    """Of processor time a photo, the fastest of 3 runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times) / N_PHOTOS


def main() -> None:
    """Print the times."""
    with tempfile.TemporaryDirectory() as name:
        paths = write_photos(Path(name))

        def open_all() -> None:
            for path in paths:
                with Image.open(path):
                    pass

        opened = milliseconds(open_all)
        listed = milliseconds(lambda: load_tagged_images(name, keywords=False))
        loaded = milliseconds(lambda: load_tagged_images(name))
    print(f"Image.open alone                     {opened:.3f} ms a photo")
    print(f"load_tagged_images, keywords=False   {listed:.3f} ({listed / opened:.1f} times)")
    print(f"load_tagged_images                   {loaded:.3f} ({loaded / opened:.1f} times)")


if __name__ == "__main__":
    main()
