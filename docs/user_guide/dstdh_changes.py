import matplotlib.pyplot as plt
import numpy as np
from sklearn.preprocessing import StandardScaler

from skhash import DSTDHLinear
from skhash.datasets import make_social_images
from skhash.metrics import leave_one_out_map

changes = {
    "as printed in the paper": {},
    "start: ITQ": {"init": "itq"},
    "start: TagITQ": {"init": "semantic"},
    "weight of the tags' loss": {"tag_weight": "auto"},
    "smaller alpha and beta": {"alpha": 0.003, "beta": 0.0003},
    "deflated graphs": {"deflate": True},
    "corrected hash function\n(the defaults)": {"ridge": "auto", "max_iter": 20},
}
photos = make_social_images(2000, image_size=16, random_state=0)
pixels = photos.images[:, ::2, ::2].reshape(2000, -1)
X = StandardScaler().fit_transform(pixels.astype(np.float32))
scores = np.empty((3, len(changes)))
for seed in range(3):
    hasher = DSTDHLinear.preset(source="paper", n_bits=32, random_state=seed)
    for i, change in enumerate(changes.values()):
        hasher.set_params(**change).fit(X[:1000], photos.tags[:1000])
        scores[seed, i] = leave_one_out_map(hasher.transform(X[1000:]), photos.labels[1000:])

figure, ax = plt.subplots(figsize=(6.4, 3))
ax.barh(list(changes), scores.mean(axis=0), xerr=scores.std(axis=0), color="tab:blue", height=0.6)
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
ax.set_xlabel("MAP on new photos")
