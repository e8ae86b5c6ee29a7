"""ImageSearch on MIR Flickr: ranking anew by decision values, and suggested tags.

    python benchmarks/search_mirflickr.py --split validation
    python benchmarks/search_mirflickr.py --split test

TagITQ, the default hasher, learns from the training photos and their tags; the photos of the
database are indexed with their tags; the queries are photos without tags.

Ranking anew (``rescore``): the first 10 f photos by codes are put in the order of decision values,
f candidates for each of 10 photos wanted. Relevant is what shares one of 24 labels; mean average
precision over the full ranking (what comes after the candidates stays in the order of codes),
precision of the first 10, bytes a photo, queries a second.

Suggested tags: the tags of the query photos are hidden, and found again among the suggestions.
Precision and recall of the first 5, and mean average precision of all that are suggested; a tag
that is not is not found. Beside two baselines: the most frequent tags, and the tags of the nearest
photo, the most frequent first.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import _mirflickr
import numpy as np
from _runs import markdown_table, mean_and_spread
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from skhash import ImageSearch, TagITQ
from skhash.search._ranking import nearest_photos, queries_by_value

N_WANTED = 10
FACTORS = (4, 10, 40)
N_TIMED = 100


def average_precision(relevant: NDArray[np.bool_], n_relevant: int) -> float:
    """Of a ranking, given which of its entries are relevant."""
    ranks = np.flatnonzero(relevant) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / max(n_relevant, 1))


def speeds(searches: dict[int, ImageSearch], X: NDArray[Any]) -> dict[int, float]:
    """Queries a second, one at a time, encoding included: the best of five turns."""
    seconds = {factor: np.inf for factor in searches}
    for _ in range(5):
        for factor, search in searches.items():
            start = time.perf_counter()
            for row in range(N_TIMED):
                search.query(X[row : row + 1], N_WANTED)
            seconds[factor] = min(seconds[factor], time.perf_counter() - start)
    return {factor: N_TIMED / time for factor, time in seconds.items()}


def rank_anew(searches: dict[int, ImageSearch], data: Any) -> dict[int, list[float]]:
    """By candidates for each photo wanted (0: none): MAP, precision, bytes, queries a second."""
    fast = speeds(searches, data.X[data.query])
    queries, labels = data.X[data.query], data.labels.astype(np.float32)
    photos = searches[1].photos_
    found: dict[int, tuple[list[float], list[float]]] = {f: ([], []) for f in (0, *FACTORS)}
    for start in range(0, len(queries), 100):
        rows = slice(start, start + 100)
        _, values = searches[1]._encode_queries(queries[rows])
        asked = queries_by_value(values)
        truth = labels[data.query[rows]] @ labels[data.database].T > 0
        _, by_codes = photos.nearest(asked.codes, len(photos))
        for factor, (maps, precisions) in found.items():
            n = factor * N_WANTED
            for i, (_, head) in enumerate(nearest_photos(photos, asked, n, n_candidates=1)):
                relevant = truth[i, np.concatenate([head, by_codes[i, n:]])]
                maps.append(average_precision(relevant, int(truth[i].sum())))
                precisions.append(relevant[:N_WANTED].mean())
    n_bytes = photos.codes.shape[1], photos.codes.shape[1] + 2 * searches[1].n_bits_
    return {
        factor: [
            float(np.mean(maps)),
            float(np.mean(precisions)),
            n_bytes[factor > 0],
            fast[factor],
        ]
        for factor, (maps, precisions) in found.items()
    }


def suggest(searches: dict[int, ImageSearch], data: Any) -> dict[str, list[float]]:
    """By method: precision and recall of the first 5 tags, and MAP."""
    hidden = [set(row) for row in data.tags[data.query]]
    tagged = [i for i, row in enumerate(hidden) if row]
    queries, hidden = data.X[data.query][tagged], [hidden[i] for i in tagged]
    photos = searches[0].photos_
    words, counts = photos.tags.vocabulary, np.asarray(photos.tags.indicator.sum(axis=0)).ravel()
    frequent = words[np.argsort(-counts, kind="stable")].tolist()
    place = {tag: i for i, tag in enumerate(frequent)}
    nearest = searches[0].query(queries, 1)
    everything = {"n_tags": len(words)}
    ranked = {
        "most frequent tags": [frequent] * len(queries),
        "tags of the nearest photo": [sorted(t[0], key=place.__getitem__) for t in nearest.tags],
        "suggest_tags": [
            [tag for tag, _ in row] for row in searches[0].suggest_tags(queries, **everything)
        ],
        "suggest_tags, rescore": [
            [tag for tag, _ in row] for row in searches[10].suggest_tags(queries, **everything)
        ],
        "the same, without taking the prior off": count_votes(searches[10], queries),
    }
    result = {}
    for name, rows in ranked.items():
        hits = [
            np.array([t in truth for t in tags], bool)
            for tags, truth in zip(rows, hidden, strict=True)
        ]
        sizes = np.array([len(truth) for truth in hidden])
        first = np.array([hit[:5].sum() for hit in hits])
        precisions = [average_precision(*pair) for pair in zip(hits, sizes, strict=True)]
        result[name] = [first.mean() / 5, (first / sizes).mean(), float(np.mean(precisions))]
    return result


def count_votes(search: ImageSearch, queries: NDArray[Any]) -> list[list[str]]:
    """Tags by the number of the 100 nearest photos that have them."""
    ranked = []
    for hits in search.query(queries, 100):
        counts: dict[str, int] = {}
        for hit in hits:
            for tag in hit.tags:
                counts[tag] = counts.get(tag, 0) + 1
        ranked.append(sorted(counts, key=lambda tag: (-counts[tag], tag)))
    return ranked


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 to this less one")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    data = _mirflickr.load(args.split)
    anew, suggested = [], []
    for seed in range(args.seeds):
        hasher = TagITQ(args.bits, random_state=seed).fit(data.X[data.train], data.tags[data.train])
        searches = {
            factor: ImageSearch(FrozenEstimator(hasher), rescore=factor or False).fit(
                data.X[data.database], data.tags[data.database]
            )
            for factor in (0, 1, *FACTORS)
        }
        anew.append(rank_anew(searches, data))
        suggested.append(suggest(searches, data))
        print(seed, anew[-1], suggested[-1], flush=True)
    rows = [
        [
            f"rescore={factor or False}",
            *(mean_and_spread(run[factor][j] for run in anew) for j in range(2)),
            f"{anew[0][factor][2]:.0f}",
            f"{np.mean([run[factor][3] for run in anew]):.0f}",
            f"{np.median([run[factor][3] / run[0][3] for run in anew]):.2f}",
        ]
        for factor in (0, *FACTORS)
    ]
    header = ["", "MAP", f"precision@{N_WANTED}", "bytes a photo", "queries/s", "ratio"]
    print(f"\n{args.split}, {args.bits} bits\n\n{markdown_table(header, rows)}\n")
    rows = [
        [name, *(mean_and_spread(run[name][j] for run in suggested) for j in range(3))]
        for name in suggested[0]
    ]
    print(markdown_table(["", "precision@5", "recall@5", "MAP"], rows))


if __name__ == "__main__":
    main()
