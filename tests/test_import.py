"""Importing the package is cheap: whoever only searches or scores waits for nothing else."""

import subprocess
import sys
import time

import pytest
from sklearn.utils.fixes import parse_version

import skhash


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def seconds(code):
    """Best of three, so that a busy machine does not decide."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(code)
        times.append(time.perf_counter() - start)
    return min(times)


def heavy_modules_after(statement):
    heavy = "{'faiss', 'gensim', 'matplotlib', 'PIL', 'skorch', 'torch', 'torchvision'}"
    return run(f"import sys; {statement}; print(*sorted({heavy} & set(sys.modules)))")


@pytest.mark.parametrize(
    "statement",
    [
        "import skhash",
        "from skhash import LSH, ITQ; LSH(4).fit_transform([[0.0, 1.0], [1.0, 0.0]])",
        "from skhash import KSH; KSH(2).fit([[0.0], [0.1], [1.0], [1.1]], [0, 0, 1, 1])",
        "from skhash import TagITQ, SAH, WMH, DSTDHLinear, HammingNeighbors",
    ],
)
def test_importing_and_hashing_features_load_nothing_heavy(statement):
    assert heavy_modules_after(statement) == ""


def test_a_search_of_features_loads_no_network():
    statement = "from skhash import ITQ, ImageSearch; ImageSearch(ITQ(1)).fit([[0.0], [1.0]])"
    assert heavy_modules_after(statement) == "PIL"


def test_importing_takes_less_than_half_a_second():
    assert seconds("import skhash") - seconds("pass") < 0.5


def test_every_public_name_can_be_had():
    for name in skhash.__all__:
        assert getattr(skhash, name) is not None
    assert dir(skhash) == sorted(skhash.__all__)


@pytest.mark.parametrize("before", ["", "sys.modules['skhash._version'] = None;"])
def test_the_version_is_known_and_that_of_a_checkout_is_no_error(before):
    version = run(f"import sys; {before} import skhash; print(skhash.__version__)")
    assert version == ("0+unknown" if before else skhash.__version__)
    assert str(parse_version(version)) == version


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        skhash.nothing  # noqa: B018
