import matplotlib.pyplot as plt
import numpy as np

from skhash import ImageSearch
from skhash.datasets import make_social_images

photos = make_social_images(400, random_state=0)  # yours: load_tagged_images("photos", "tags.csv")
search = ImageSearch().fit(photos.images, photos.tags)

print(
    search.query(photos.images[:1], n_neighbors=6)
)  # photos like a photo: id, and bits that differ

found = search.query_tags([["beach", "sunset"], ["cat"]], n_neighbors=6)  # photos by words
print(found)
plt.imshow(np.vstack([np.hstack(photos.images[ids]) for ids in found.ids]))
