import os

import skhash
from skhash import DSTDHHasher
from skhash.datasets import load_tagged_images

if __name__ == "__main__":
    photos = load_tagged_images("photos", "tags.csv")
    hasher = DSTDHHasher(
        n_bits=64,
        backbone="efficientnet_lite0",
        trainable="all",
        batch_size=256,  # of all processes together
        checkpoint="training",
        random_state=0,
        verbose=1,
    )
    hasher.fit(photos.images, photos.tags)
    if os.environ.get("RANK", "0") == "0":  # all have the same hasher now
        skhash.save(hasher, "hasher.skhash")
