"""Retrieval by tags alone on MIR Flickr: MAP of the cosine of sem-vectors beside bags of tags.

    python benchmarks/semantic_mirflickr.py --split validation      # for tuning
    python benchmarks/semantic_mirflickr.py --split test            # for the table

Relevant is what shares one of the 24 labels. The spaces are fitted on the tags of the database;
photos are ranked by the cosine of their vectors with the query's, ties counted by their
precision together. Every run is kept in ``benchmarks/cache``.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import _mirflickr
import numpy as np
import scipy.sparse as sp
from _runs import Runs, markdown_table, mean_and_spread
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import normalize

from skhash.metrics import chance_level
from skhash.semantic import SemanticSpace
from skhash.tags import encode_tags, tfidf

SPACES: dict[str, Any] = {
    "sem-vectors": SemanticSpace,
    "not centred (as the paper)": partial(SemanticSpace, center=False),
    "density 0.05": partial(SemanticSpace, density=0.05),
    "density 0.2": partial(SemanticSpace, density=0.2),
    "256 sem-words": partial(SemanticSpace, 256),
    "4 passes": partial(SemanticSpace, max_iter=4),
    "16 passes": partial(SemanticSpace, max_iter=16),
    "20 epochs of word2vec": partial(SemanticSpace, epochs=20),
    "homotopy (as the paper)": partial(SemanticSpace, algorithm="lars"),
}
BETAS = (0.001, 0.01, 0.1)  # of smoothing


def cosine_map(V: Any, data: SimpleNamespace) -> float:
    """MAP of the full ranking by cosine similarity; a zero vector is like nothing."""
    V = normalize(sp.csr_array(V, dtype=np.float32))
    database = V[data.database].toarray().T
    precisions: list[float] = []
    for rows in np.array_split(data.query, max(1, len(data.query) // 200)):
        similarities = V[rows] @ database
        relevant = data.labels[rows].astype(np.float32) @ data.labels[data.database].T > 0
        precisions += [
            average_precision_score(*pair) if pair[0].any() else 0.0
            for pair in zip(relevant, similarities, strict=True)
        ]
    return round(float(np.mean(precisions)), 5)


def mean_vectors(space: SemanticSpace, tags: NDArray[Any]) -> NDArray[np.float32]:
    """Mean of the centred vectors of each photo's tags: no sem-words."""
    indicator = encode_tags(tags, vocabulary=space.vocabulary_).indicator
    return indicator @ (space.tag_vectors_ - space.mean_)


def evaluate(space: SemanticSpace, data: SimpleNamespace, *, variants: bool) -> dict[str, Any]:
    start = time.perf_counter()
    space.fit(data.tags[data.database])
    seconds = round(time.perf_counter() - start, 1)
    Z = space.transform(data.tags)
    others: dict[str, Any] = {}
    if variants:
        others["its mean tag vectors, no sem-words"] = mean_vectors(space, data.tags)
        others |= {f"its sem-vectors smoothed, beta {b}": space.smooth(Z, b) for b in BETAS}
    return {
        "map": cosine_map(Z, data),
        "variants": {name: cosine_map(V, data) for name, V in others.items()},
        "fit_seconds": seconds,
    }


def main() -> None:
    """Run what is not kept yet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    args = parser.parse_args()

    data = _mirflickr.load(args.split)
    runs = Runs(f"semantic_mirflickr_{args.split}")
    labels = data.labels[data.query], data.labels[data.database]
    bags = encode_tags(data.tags).indicator
    rows = [
        ["chance", f"{chance_level(*labels):.4f}", ""],
        ["bags of tags", f"{cosine_map(bags, data):.4f}", ""],
        ["bags of tags, IDF", f"{cosine_map(tfidf(bags), data):.4f}", ""],
    ]
    for name in args.spaces:
        found = []
        for seed in range(args.seeds):
            space = SPACES[name](random_state=seed)
            if (name, seed) not in runs.results:
                variants = name == "sem-vectors"
                runs.add((name, seed), evaluate(space, data, variants=variants))
            found.append(runs.results[name, seed])
        seconds = np.median([result["fit_seconds"] for result in found])
        rows.append([name, mean_and_spread(result["map"] for result in found), f"{seconds:.0f}"])
        for key in found[0]["variants"]:
            score = mean_and_spread(result["variants"][key] for result in found)
            rows.append([key, score, ""])
    print(markdown_table(["photos ranked by", "MAP", "fit, s"], rows))


if __name__ == "__main__":
    main()
