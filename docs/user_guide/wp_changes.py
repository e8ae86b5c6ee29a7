import matplotlib.pyplot as plt
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.preprocessing import StandardScaler

from skhash import ITQ, KSHHasher, SemanticSpace, WeaklySupervisedHasher
from skhash.datasets import make_social_images
from skhash.metrics import leave_one_out_map

photos = make_social_images(2000, image_size=16, random_state=0)
pixels = photos.images[:, ::2, ::2].reshape(2000, -1)
X = StandardScaler().fit_transform(pixels.astype(np.float32))
X_train, X_test, tags = X[:1000], X[1000:], photos.tags[:1000]
few_labels = photos.labels[:1000].copy()
few_labels.data[few_labels.indptr[100] :] = 0  # 100 photos keep their labels, 900 lose them
few_labels.eliminate_zeros()

space = FrozenEstimator(SemanticSpace(random_state=0).fit(tags))  # shared by all hashers
ksh = KSHHasher(n_bits=32, random_state=0)


def wp(**params):
    return WeaklySupervisedHasher(ksh, space, random_state=0, **params)


def score(hasher):
    return leave_one_out_map(hasher.transform(X_test), photos.labels[1000:])


scores = {
    "ITQ: features alone": score(ITQ(32, random_state=0).fit(X_train)),
    "KSH-: tags as labels": score(ksh.fit(X_train, tags)),
    "WP-KSH-, random start": score(wp(init="random", lr=1e-3).fit(X_train, tags)),
    "WP-KSH-, start only": score(wp(max_epochs=0).fit(X_train, tags)),
    "WP-KSH-": score(wp().fit(X_train, tags)),
    "KSH, 100 labels": score(ksh.fit(X_train, few_labels)),
    "WP-KSH, 100 labels, no retention": score(
        wp(retention=0).fit(X_train, tags, labels=few_labels)
    ),
    "WP-KSH, 100 labels": score(wp().fit(X_train, tags, labels=few_labels)),
}

figure, ax = plt.subplots(figsize=(6.4, 3))
ax.barh(list(scores), list(scores.values()), color=["0.55"] + 4 * ["tab:blue"] + 3 * ["tab:orange"])
ax.invert_yaxis()
ax.spines[["top", "right"]].set_visible(False)
ax.set_xlabel("MAP on new photos (orange: with labels)")
