"""Rendered photos with tags like those of people."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from .._sklearn import Interval, validate_params
from ..tags import encode_tags
from ._base import as_object_array
from ._lexicon import CAMERAS, LOCATIONS, POLYSEMES, PRAISE, SYNONYMS, YEARS

CONCEPTS = tuple(SYNONYMS)

# Where a photo may be taken (None: nowhere in particular), how often, and what may be there.
PLACES: dict[str | None, tuple[float, tuple[str, ...]]] = {
    "beach": (0.12, ("people", "dog", "boat", "bird")),
    "city": (0.14, ("car", "people", "cat")),
    "forest": (0.12, ("people", "dog", "bird", "flower")),
    "mountain": (0.12, ("people", "car", "bird")),
    "sea": (0.10, ("boat", "bird")),
    None: (0.44, ("flower", "cat", "bird", "food", "people", "dog", "car")),
}
# How often each of these holds, at which places; at most one does.
CONDITIONS: dict[str, tuple[float, tuple[str | None, ...]]] = {
    "sunset": (0.16, ("beach", "sea", "mountain", "city", None)),
    "night": (0.16, ("sea", "mountain", "city", None)),
    "snow": (0.16, ("mountain", "forest", "city", None)),
}
SUBJECT_RATE, SECOND_SUBJECT_RATE = 0.5, 0.2

_RATE = [Interval(Real, 0, 1, closed="both")]


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_concepts": [Interval(Integral, 1, len(CONCEPTS), closed="both")],
        "image_size": [Interval(Integral, 16, None, closed="left")],
        "tags_per_image": [Interval(Real, 1, None, closed="left")],
        "synonym_rate": _RATE,
        "polysemy_rate": _RATE,
        "noise_rate": _RATE,
        "missing_rate": _RATE,
        "untagged_rate": _RATE,
        "random_state": ["random_state"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_social_images(
    n_samples: int = 1000,
    *,
    n_concepts: int = len(CONCEPTS),
    image_size: int = 64,
    tags_per_image: float = 7.0,
    synonym_rate: float = 0.5,
    polysemy_rate: float = 0.1,
    noise_rate: float = 0.3,
    missing_rate: float = 0.3,
    untagged_rate: float = 0.05,
    random_state: int | np.random.RandomState | None = None,
    return_X_y: bool = False,
) -> Any:
    """Paint photos of known concepts, and tag them as people do.

    Each photo shows one to four of 16 concepts: a place (or none in particular), perhaps sunset,
    night or snow, and up to two subjects. A concept has several forms that have little in common (a
    blossom close by, a field of flowers), and different concepts can look similar (cats and dogs
    with the same coats, a beach and a snowfield). Light, exposure, colour cast, grain and frames
    vary, and some photos are black and white. So colours and gradients show only a part of the
    content of a photo, and its tags show more:

    - each tag is drawn as noise (camera, year, place, praise) or as a word for one of the
      photo's concepts;
    - a word is a polyseme ("jaguar", a car or a cat), a synonym ("playa" for "beach"), or the
      plain name;
    - some concepts of a photo are never mentioned, and some photos have no tags.

    With the defaults, photos with tags have as many tags as on MIR Flickr (4.7 in the mean, half of
    the photos at most 4, one in twenty 12 or more), and four tags in ten are noise.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of photos. The first photos do not depend on this number.
    n_concepts : int, default=16
        Number of concepts, from 1 to 16. With fewer concepts, photos are more similar.
    image_size : int, default=64
        Height and width in pixels, at least 16.
    tags_per_image : float, default=7.0
        Mean number of tags drawn for a photo with tags, geometrically distributed, at least 1.
        Repeated tags count once, and a draw is lost if no concept of the photo is mentioned, so
        fewer tags remain.
    synonym_rate : float, default=0.5
        How often a synonym replaces the plain name of a concept.
    polysemy_rate : float, default=0.1
        How often a word for a concept also names another concept.
    noise_rate : float, default=0.3
        How often a drawn tag is noise.
    missing_rate : float, default=0.3
        How often a concept of a photo is never mentioned in its tags.
    untagged_rate : float, default=0.05
        How often a photo has no tags.
    random_state : int, RandomState instance or None, default=None
        Seed; the rates change the tags of a seed, not its photos.
    return_X_y : bool, default=False
        Whether to return ``(images, tags)`` instead of a Bunch.

    Returns
    -------
    data : Bunch
        - images : ndarray of shape (n_samples, image_size, image_size, 3), uint8
        - tags : ndarray of list of str, shape (n_samples,)
        - labels : csr_array of shape (n_samples, n_concepts), 1 where a photo shows a concept
        - tag_names, label_names : ndarrays of str, sorted; ``label_names`` are the columns
          of labels
        - tag_concepts : dict from each word to the concepts it names: one, two for a
          polyseme, none for noise
        - DESCR : str, a description of what was made

    Examples
    --------
    >>> from skhash.datasets import make_social_images
    >>> data = make_social_images(20, random_state=0)
    >>> data.images.shape, data.labels.shape
    ((20, 64, 64, 3), (20, 16))
    """
    from ._scene import render  # Pillow is loaded on use

    concepts = CONCEPTS[:n_concepts]
    tagger = _Tagger(
        concepts,
        tags_per_image,
        synonym_rate,
        polysemy_rate,
        noise_rate,
        missing_rate,
        untagged_rate,
    )
    # One random stream per photo and purpose, so that draws do not affect each other.
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    images = np.empty((n_samples, image_size, image_size, 3), dtype=np.uint8)
    shown, tags = [], []
    for i in range(n_samples):
        scene_rng = np.random.default_rng([seed, i, 0])
        shown.append(_sample_concepts(concepts, scene_rng))
        images[i] = render(shown[i], image_size, scene_rng)
        tags.append(tagger.tag(shown[i], np.random.default_rng([seed, i, 1])))
    if return_X_y:
        return images, as_object_array(tags)
    return Bunch(
        images=images,
        tags=as_object_array(tags),
        labels=encode_tags(shown, vocabulary=sorted(concepts)).indicator,
        tag_names=encode_tags(tags).vocabulary,
        label_names=as_object_array(sorted(concepts)),
        tag_concepts=tagger.tag_concepts(),
        DESCR=(
            f"Rendered social photos\n\n{n_samples} photos of {image_size} x {image_size} pixels, "
            f"{n_concepts} concepts, {sum(map(len, tags))} tags; {tags_per_image=}, "
            f"{synonym_rate=}, {polysemy_rate=}, {noise_rate=}, {missing_rate=}, "
            f"{untagged_rate=}, {random_state=}."
        ),
    )


def _sample_concepts(concepts: tuple[str, ...], rng: np.random.Generator) -> list[str]:
    """The concepts of one photo, in the order of ``concepts``."""
    places = [place for place in PLACES if place is None or place in concepts]
    weights = np.array([PLACES[place][0] for place in places])
    place = places[rng.choice(len(places), p=weights / weights.sum())]
    chosen = {place}
    luck = rng.random()
    for condition, (rate, where) in CONDITIONS.items():
        if condition in concepts and place in where:
            if 0 <= luck < rate:
                chosen.add(condition)
            luck -= rate
    outdoors = len(chosen) > 1
    subjects = [s for s in PLACES[place][1] if s in concepts and not (outdoors and s == "food")]
    n_subjects = int(rng.random() < SUBJECT_RATE or chosen == {None})
    if n_subjects and rng.random() < SECOND_SUBJECT_RATE:
        n_subjects = 2
    chosen.update(rng.permutation(subjects)[:n_subjects].tolist())
    shown = [concept for concept in concepts if concept in chosen]
    return shown or [concepts[rng.integers(len(concepts))]]


def _favour_first(words: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of the words, the earlier ones more often."""
    return words[int(len(words) * rng.random() ** 1.5)]


@dataclass(frozen=True)
class _Tagger:
    """How people tag; the rates are those of :func:`make_social_images`."""

    concepts: tuple[str, ...]
    tags_per_image: float
    synonym_rate: float
    polysemy_rate: float
    noise_rate: float
    missing_rate: float
    untagged_rate: float

    def tag(self, shown: list[str], rng: np.random.Generator) -> list[str]:
        """The tags of a photo that shows these concepts."""
        if rng.random() < self.untagged_rate:
            return []
        mentioned = [concept for concept in shown if rng.random() >= self.missing_rate]
        n_draws = int(rng.geometric(1 / self.tags_per_image))
        n_noise = int(rng.binomial(n_draws, self.noise_rate))
        words = self._noise(n_noise, rng)
        if mentioned:
            chosen = rng.integers(len(mentioned), size=n_draws - n_noise)
            words = [self._word(mentioned[k], rng) for k in chosen] + words
        return list(dict.fromkeys(words))

    def _word(self, concept: str, rng: np.random.Generator) -> str:
        polysemes = self._polysemes(concept)
        if polysemes and rng.random() < self.polysemy_rate:
            return polysemes[rng.integers(len(polysemes))]
        if rng.random() < self.synonym_rate:
            return _favour_first(SYNONYMS[concept], rng)
        return concept

    def _polysemes(self, concept: str) -> list[str]:
        # If one of the two concepts is absent, the word is not ambiguous.
        return [
            word
            for word, meanings in POLYSEMES.items()
            if concept in meanings and set(meanings) <= set(self.concepts)
        ]

    def _noise(self, n_words: int, rng: np.random.Generator) -> list[str]:
        """A photo has one camera, one year and one place; the rest is praise and groups."""
        camera = CAMERAS[rng.integers(len(CAMERAS))]
        year, location = _favour_first(YEARS, rng), _favour_first(LOCATIONS, rng)
        kinds = (camera, (year,), (location,), PRAISE)
        drawn = rng.choice(len(kinds), size=n_words, p=(0.25, 0.15, 0.15, 0.45))
        return [_favour_first(kinds[kind], rng) for kind in drawn]

    def tag_concepts(self) -> dict[str, tuple[str, ...]]:
        """Every word that can occur, with the concepts it names."""
        meanings: dict[str, tuple[str, ...]] = {
            word: () for word in (*YEARS, *LOCATIONS, *PRAISE, *(w for c in CAMERAS for w in c))
        }
        for concept in self.concepts:
            meanings |= {word: (concept,) for word in (concept, *SYNONYMS[concept])}
            meanings |= {word: POLYSEMES[word] for word in self._polysemes(concept)}
        return meanings
