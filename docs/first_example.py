import matplotlib.pyplot as plt
import numpy as np

from skhash import ImageSearch
from skhash.datasets import make_social_images

photos = make_social_images(400, random_state=0)  # yours: load_tagged_images("photos", "tags.csv")
search = ImageSearch().fit(photos.images, photos.tags)

# Photos like the first one: their ids, and in how many of 64 bits the codes differ.
print(search.query(photos.images[:1], n_neighbors=6))

# Photos by words.
found = search.query_tags([["beach", "sunset"], ["cat"]], n_neighbors=6)
print(found)
plt.imshow(np.vstack([np.hstack(photos.images[ids]) for ids in found.ids]))
plt.show()
