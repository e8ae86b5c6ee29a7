"""
What do tags mean to each other?
================================

"Playa" is a beach, "jaguar" is a car or a cat, and "nikon" names nothing that
a photo shows. A :class:`~skhash.SemanticSpace` learns this only from lists of
tags: it uses which words are in the same list more often than by chance. This
page explores such a space.
"""

# Authors: the scikit-hash developers
# SPDX-License-Identifier: BSD-3-Clause

import matplotlib.pyplot as plt
import numpy as np
from sklearn.manifold import TSNE
from sklearn.metrics.pairwise import cosine_similarity

from skhash import SemanticSpace
from skhash.datasets import make_social_images
from skhash.semantic import SemanticSpaceDisplay

# %%
# Tags
# ----
# The tags of 3,000 photos are artificial, but similar to those of real users:
# in several languages, with words of two meanings, cameras, places and praise.
# The space uses only these lists. (The photos are small here, because they are
# not used.)

photos = make_social_images(3000, image_size=16, random_state=0)
for words in photos.tags[:5]:
    print(", ".join(words) or "(none)")

# %%
# Sem-words
# ---------
# Each tag gets a vector, here by counting (``embedding="ppmi"``). This suits
# small data such as 200 tags on 3,000 photos; the default, word2vec, is for
# more data. Then the space learns 24 *sem-words*, which are directions such
# that each tag needs only few of them, and a sparse code for each tag. The
# strongest tags of a sem-word show its topic.

space = SemanticSpace(n_components=24, embedding="ppmi", random_state=0)
space.fit(photos.tags)
print(len(space.vocabulary_), "tags,", space.n_components_, "sem-words")
print(f"{np.diff(space.tag_codes_.indptr).mean():.1f} sem-words for a tag")

SemanticSpaceDisplay.from_estimator(space, n_tags=8)
plt.show()

# %%
# Neighbours
# ----------
# These are tags with similar codes. "Playa" finds the beach in all languages,
# "robin" finds birds. "Nikon" finds its models first; the places and praise
# that follow are there by chance.

some = ["playa", "robin", "nikon"]
SemanticSpaceDisplay.from_estimator(space, tags=some, n_tags=8)
plt.show()

# %%
# How often is the nearest tag right? The tags are artificial, so we know which
# words name one thing. For each of them we check whether its nearest neighbour
# names the same thing. Words that name nothing in a photo (cameras, places,
# praise) have no right neighbour.

concepts = photos.tag_concepts
one_thing = [tag for tag in space.vocabulary_ if len(concepts[tag]) == 1]
right = 0
for tag in one_thing:
    [(nearest, _)] = space.similar_tags(tag, 1)
    right += concepts[tag][0] in concepts[nearest]
print(f"{right} of {len(one_thing)} words")

# %%
# A word of two meanings
# ----------------------
# In a list of synonyms, "jaguar" would have to be either a car or a cat. Its
# code contains both, and more of the car: 29 of the 41 photos with this tag
# show a car, 16 a cat.

row = np.flatnonzero(space.vocabulary_ == "jaguar")[0]
code = space.tag_codes_[[row]].toarray().ravel()
meanings = np.argsort(-np.abs(code))[:2].tolist()
for k in meanings:
    words = ", ".join(word for word, _ in space.top_tags(k, 4))
    print(f"{code[k]:5.2f} x sem-word {k} ({words}, ...)")

# %%
# The sem-vector of a photo is the mean of the codes of its tags. So the other
# tags determine which jaguar is meant. Cosines of sem-vectors:

lists = [["jaguar"], ["jaguar", "classiccar"], ["jaguar", "kitten"]]
vectors, plain = space.transform(lists), space.transform([["car"], ["cat"]])
similarity = cosine_similarity(vectors, plain)
for words, (car, cat) in zip(lists, similarity, strict=True):
    print(f"{' + '.join(words):20}  like car {car:.2f}  like cat {cat:.2f}")

# %%
# A map
# -----
# This map shows all tag vectors in two dimensions, by t-SNE: neighbours stay
# neighbours, but long distances have no meaning. Colours show the thing that a
# word names, rings are words of two meanings, grey words name nothing in a
# photo. Most words of two meanings are near one of their meanings or between
# both.

tsne = TSNE(perplexity=20, metric="cosine", random_state=0)
places = tsne.fit_transform(space.tag_vectors_)
tab20 = plt.colormaps["tab20"]
colours = [tab20(i) for i in (*range(14), 16, 17)]  # without greys
colour_of = dict(zip(photos.label_names, colours, strict=True))

figure, ax = plt.subplots(figsize=(8, 7), layout="constrained")
for (x, y), tag in zip(places, space.vocabulary_, strict=True):
    inner, *outer = [colour_of[name] for name in concepts[tag]] or ["0.8"]
    if outer:
        ax.scatter(x, y, s=60, color=inner, edgecolor=outer, lw=2)
        ax.annotate(tag, (x, y), (5, 3), textcoords="offset points", size=7)
    else:
        ax.scatter(x, y, s=30, color=inner)
for name, colour in colour_of.items():
    own = [concepts[tag] == (name,) for tag in space.vocabulary_]
    box = {"facecolor": "white", "edgecolor": colour, "alpha": 0.8, "pad": 2}
    x, y = places[own].T
    ax.text(np.median(x), y.min() - 1, name, ha="center", va="top", bbox=box)
ax.margins(0.08)
ax.set(xticks=[], yticks=[], title="Tags, by the tags that they come with")
plt.show()

# %%
# What to take from this
# ----------------------
# - Nobody has to list synonyms: they can be learned from the tags of photos.
# - A code may have two meanings; the other tags of a photo decide between
#   them.
# - Words that name nothing belong to no group; they lie between the groups.
#
# Hashers use the space automatically: see
# :class:`~skhash.WeaklySupervisedHasher`, whose first stage learns
# sem-vectors, and ``target=`` of :class:`~skhash.TagITQ`. Formulas are on the
# page :doc:`/user_guide/wp`.

# sphinx_gallery_thumbnail_number = 3
