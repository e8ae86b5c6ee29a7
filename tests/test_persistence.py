"""Files of estimators: the same estimator comes back, or a clear error."""

import json
import os
import pickle
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import sklearn
import torch
from _estimators import ARGUMENTS, USES_TAGS, make_hasher
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.utils.metadata_routing import get_routing_for_object
from torch import nn

import skhash
from skhash import DSHHasher, HammingNeighbors, ImageFeatures, SemanticSpace, SemanticTargets
from skhash._files import read_checked, write_checked
from skhash.networks import Backbone, make_backbone
from skhash.networks._backbones import blank_network
from skhash.networks._torchvision import models
from skhash.persistence import _files, _networks

RNG = np.random.default_rng(0)
X = np.abs(RNG.normal(size=(40, 6))) + np.repeat(3 * np.eye(4, 6), 10, axis=0)
TAGS = [[f"kind {i // 10}", f"mood {i % 3}"][: 1 + i % 2] for i in range(40)]
IMAGES = RNG.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
LABELS = [["a"], ["b"]] * 4
NET = {"image_size": 32, "max_epochs": 1, "batch_size": 4, "random_state": 0}

# Estimators that the package exports.
PUBLIC = {
    name
    for name in skhash.__all__
    if isinstance(value := getattr(skhash, name), type) and issubclass(value, BaseEstimator)
}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of so little data


class Net(nn.Module):
    """A network of somebody's own."""

    def __init__(self, n_maps=3):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, n_maps, 3), nn.BatchNorm2d(n_maps), nn.ReLU())

    def forward(self, images):
        return self.layers(images)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.skhash"


@pytest.fixture
def again(path):
    """Save and load."""

    def save_and_load(estimator, backbone="weights", **given):
        skhash.save(estimator, path, backbone=backbone)
        return skhash.load(path, **given)

    return save_and_load


@pytest.fixture
def saved(path):
    """A small file of a network and another estimator."""
    network = make_hasher("DSHHasher").fit(X, np.arange(40) // 10)
    skhash.save(make_pipeline(StandardScaler(), network).fit(X, np.arange(40) // 10), path)
    return path


@pytest.fixture
def no_pickle(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle was used")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name in ("save", "load"):
        monkeypatch.setattr(torch, name, refuse)


def fitted(name):
    hasher = make_hasher(name)
    return hasher.fit(X, TAGS) if name in USES_TAGS else hasher.fit(X)


def params(estimator):
    """Parameters, those of estimators within it included, that can be compared."""
    return {
        name: type(value) if hasattr(value, "get_params") or name == "steps" else value
        for name, value in estimator.get_params().items()
    }


def edit(path, change):
    """Change what a file says, and give it the checksum of that."""
    with np.load(read_checked(path)) as archive:
        about = json.loads(archive["model.json"])
        arrays = [archive[f"arr_{i}"] for i in range(len(archive.files) - 1)]
    about = change(about) or about

    def write(file):
        np.savez(file, *arrays)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("model.json", about if isinstance(about, str) else json.dumps(about))

    write_checked(path, write)


def run(code, *arguments):
    """What a new process prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


# What comes back.


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_hasher_comes_back_unfitted(again, name):
    hasher = make_hasher(name)
    loaded = again(hasher)
    assert type(loaded) is type(hasher)
    assert params(loaded) == params(hasher)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        loaded.transform(X)


@pytest.mark.parametrize("name", sorted(PUBLIC - ARGUMENTS.keys()))
def test_every_other_estimator_comes_back_unfitted(again, name):
    estimator = getattr(skhash, name)(*([skhash.LSH()] if name == "TagHasher" else []))
    loaded = again(estimator)
    assert type(loaded) is type(estimator)
    assert params(loaded).keys() == params(estimator).keys()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_hasher_comes_back_fitted(again, name, no_pickle):
    hasher = fitted(name)
    loaded = again(hasher)
    assert params(loaded) == params(hasher)
    assert vars(loaded).keys() == vars(hasher).keys()
    values = hasher.decision_function(X)
    assert loaded.decision_function(X).dtype == values.dtype
    np.testing.assert_array_equal(loaded.decision_function(X), values)
    np.testing.assert_array_equal(loaded.transform(X), hasher.transform(X))
    if hasattr(hasher, "transform_tags"):
        queries = [["kind 1"], ["mood 2", "kind 3"]]
        np.testing.assert_array_equal(
            loaded.transform_tags(queries), hasher.transform_tags(queries)
        )
    assert list(loaded.get_feature_names_out()) == list(hasher.get_feature_names_out())


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_hasher_comes_back_in_a_pipeline(again, name):
    pipeline = make_pipeline(StandardScaler(), make_hasher(name)).fit(X, TAGS)
    loaded = again(pipeline)
    assert params(loaded) == params(pipeline)
    np.testing.assert_array_equal(loaded.transform(X), pipeline.transform(X))


def test_a_fitted_hasher_can_be_fitted_again(again):
    hasher = fitted("DSHHasher")
    loaded = again(hasher).fit(X, TAGS)
    np.testing.assert_array_equal(loaded.decision_function(X), hasher.decision_function(X))
    loaded.set_params(lr=0.1).fit(X, TAGS)
    assert not np.array_equal(loaded.decision_function(X), hasher.decision_function(X))


@pytest.mark.parametrize("target", ["ppmi", "sem-vectors", "tfidf"])
def test_meanings_of_tags_come_back(again, target):
    targets = SemanticTargets(target, random_state=0).fit(TAGS)
    found, expected = again(targets).transform(TAGS), targets.transform(TAGS)
    assert type(found) is type(expected)
    if target == "tfidf":
        found, expected = found.toarray(), expected.toarray()
    np.testing.assert_array_equal(found, expected)


def test_a_semantic_space_comes_back(again):
    space = SemanticSpace(3, embedding="ppmi", random_state=0).fit(TAGS)
    loaded = again(space)
    np.testing.assert_array_equal(loaded.transform(TAGS).toarray(), space.transform(TAGS).toarray())
    assert loaded.similar_tags("kind 1") == space.similar_tags("kind 1")


def test_vectors_of_ones_own_know_new_words_again(again):
    vectors = {f"{w} {i}": RNG.normal(size=4) for w in ("kind", "mood", "new") for i in range(4)}
    targets = SemanticTargets(vectors).fit(TAGS)
    loaded = again(targets)
    np.testing.assert_array_equal(loaded.transform([["new 1"]]), targets.transform([["new 1"]]))
    assert loaded.target.keys() == vectors.keys()


def test_codes_of_words_come_back(again):
    words = skhash.TagHasher(fitted("ITQ")).fit(X, TAGS)
    loaded = again(words)
    np.testing.assert_array_equal(loaded.transform(TAGS), words.transform(TAGS))
    np.testing.assert_array_equal(
        loaded.transform_with_tags(X, TAGS), words.transform_with_tags(X, TAGS)
    )


def test_an_index_comes_back(again):
    codes = fitted("LSH").transform(X)
    index = HammingNeighbors(n_neighbors=3).fit(codes)
    loaded = again(index)
    for found, expected in zip(loaded.kneighbors(codes), index.kneighbors(codes), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_what_parts_share_is_shared_again(again):
    hasher = again(fitted("TagITQ"))
    assert hasher._tag_codes.targets is hasher.targets_


def test_a_random_state_goes_on_where_it_was(again):
    state = np.random.RandomState(3)
    state.normal(size=3)  # it keeps the second of a pair
    hasher = skhash.LSH(4, random_state=state)
    loaded = again(hasher)
    np.testing.assert_array_equal(
        loaded.random_state.normal(size=5), hasher.random_state.normal(size=5)
    )


def test_names_output_and_routing_come_back(again, metadata_routing):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    hasher = skhash.ITQ(2, random_state=0).set_output(transform="pandas").fit(frame)
    hasher.set_score_request(labels="truth")
    loaded = again(hasher)
    assert loaded.transform(frame).equals(hasher.transform(frame))
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame[list("bacdef")])
    routing = get_routing_for_object(loaded)
    assert routing.score.requests == get_routing_for_object(hasher).score.requests
    assert routing.score.requests["labels"] == "truth"


def test_scikit_learns_around_it_come_back(again):
    frozen = FrozenEstimator(fitted("ITQ"))
    pipeline = make_pipeline(PCA(3, random_state=0), skhash.LSH(4, random_state=0)).fit(X)
    np.testing.assert_array_equal(again(frozen).transform(X), frozen.transform(X))
    np.testing.assert_array_equal(again(pipeline).transform(X), pipeline.transform(X))


def test_values_keep_their_types(again):
    hasher = skhash.LSH(np.int64(4), random_state=np.int32(5))
    hasher.extra_ = [np.float32(0.1), np.str_("é"), (True, None), {1: "a", (2, 3): [1e-300]}]
    hasher.more_ = np.array([1, "a", None, (1, 2)], dtype=object).reshape(2, 2)
    hasher.most_ = np.asfortranarray(np.eye(3))
    loaded = again(hasher)
    assert type(loaded.n_bits) is np.int64
    assert loaded.extra_ == hasher.extra_
    assert [type(v) for v in loaded.extra_] == [type(v) for v in hasher.extra_]
    assert loaded.more_.tolist() == hasher.more_.tolist()
    assert loaded.most_.flags.f_contiguous
    assert not loaded.most_.flags.c_contiguous


def test_paths_are_kept_as_text(again, tmp_path):
    hasher = DSHHasher(cache=tmp_path / "cache", weights=tmp_path / "weights.pth")
    assert again(hasher).cache == str(tmp_path / "cache")


# In another process.


def test_a_hasher_of_features_needs_no_torch_in_a_new_process(path, tmp_path):
    skhash.save(make_pipeline(StandardScaler(), skhash.DSTDHLinear(4, n_anchors=5)), path)
    hasher = make_pipeline(StandardScaler(), fitted("DSTDHLinear")).fit(X, TAGS)
    skhash.save(hasher, path)
    np.save(tmp_path / "X.npy", X)
    code = (
        "import sys, numpy as np, skhash; X = np.load(sys.argv[2]);"
        "print(skhash.load(sys.argv[1]).transform(X).tolist());"
        "print(sorted({'torch', 'gensim', 'skorch'} & set(sys.modules)))"
    )
    codes, heavy = run(code, path, tmp_path / "X.npy").splitlines()
    assert json.loads(codes) == hasher.transform(X).tolist()
    assert heavy == "[]"


def test_a_network_comes_back_in_a_new_process(path, tmp_path):
    hasher = DSHHasher(4, backbone="squeezenet1_1", weights=None, **NET).fit(IMAGES, LABELS)
    skhash.save(hasher, path)
    np.save(tmp_path / "X.npy", IMAGES)
    code = (
        "import sys, numpy as np, skhash; X = np.load(sys.argv[2]);"
        "print(skhash.load(sys.argv[1]).transform(X).tolist())"
    )
    assert json.loads(run(code, path, tmp_path / "X.npy")) == hasher.transform(IMAGES).tolist()


# Networks.


@pytest.mark.parametrize("trainable", ["head", "all", ["features.12"]])
def test_a_network_of_torchvision_comes_back(again, trainable):
    hasher = DSHHasher(4, backbone="squeezenet1_1", weights=None, trainable=trainable, **NET)
    hasher.fit(IMAGES, LABELS)
    loaded = again(hasher)
    np.testing.assert_array_equal(
        loaded.decision_function(IMAGES), hasher.decision_function(IMAGES)
    )
    assert loaded.backbone_.fingerprint() == hasher.backbone_.fingerprint()
    assert [p.requires_grad for p in loaded.backbone_.parameters()] == [
        p.requires_grad for p in hasher.backbone_.parameters()
    ]
    loaded.fit(IMAGES, LABELS)
    np.testing.assert_array_equal(
        loaded.decision_function(IMAGES), hasher.decision_function(IMAGES)
    )


def test_nothing_is_drawn_at_random_for_what_is_loaded(saved, path, monkeypatch):
    network = ImageFeatures("squeezenet1_1", weights=None, random_state=0).fit(IMAGES)
    skhash.save(network, path)
    before = torch.get_rng_state()
    assert {p.device.type for p in blank_network("squeezenet1_1", "pool").parameters()} == {"meta"}
    monkeypatch.setattr(models, "get_model", only_on_meta(models.get_model))
    loaded = skhash.load(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert {p.device.type for p in loaded.backbone_.parameters()} == {"cpu"}


def only_on_meta(get_model):
    def checked(*args, **kwargs):
        net = get_model(*args, **kwargs)
        assert all(p.device.type == "meta" for p in net.parameters())
        return net

    return checked


@pytest.mark.parametrize("name", ["regnet_x_400mf", pytest.param("swin_t", marks=pytest.mark.slow)])
def test_a_network_that_computes_with_tensors_when_it_is_built_comes_back(again, name):
    features = ImageFeatures(name, weights=None, image_size=32, random_state=0)
    before = torch.get_rng_state()
    loaded = again(features.fit(IMAGES))
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(loaded.transform(IMAGES), features.transform(IMAGES))


def test_preprocessing_comes_back(again):
    backbone = Backbone(
        make_backbone("squeezenet1_1", None, random_state=0).net,
        40, (0.1, 0.2, 0.3), (1.0, 0.7, 0.3), crop=0.875, interpolation="bicubic",
    )  # fmt: skip
    features = ImageFeatures(backbone).fit(IMAGES)
    np.testing.assert_array_equal(again(features).transform(IMAGES), features.transform(IMAGES))


def test_weights_of_half_precision_come_back(again):
    for dtype in (torch.float16, torch.bfloat16):
        features = ImageFeatures(make_backbone("squeezenet1_1", None).to(dtype), image_size=32)
        features.fit(IMAGES)
        loaded = again(features)
        np.testing.assert_array_equal(loaded.transform(IMAGES), features.transform(IMAGES))
        assert next(loaded.backbone_.net.parameters()).dtype == dtype
        assert (
            loaded.backbone_.net.state_dict().keys() == features.backbone_.net.state_dict().keys()
        )
        for key, tensor in features.backbone_.net.state_dict().items():
            assert torch.equal(loaded.backbone_.net.state_dict()[key], tensor)


@pytest.fixture
def state_dicts(tmp_path):
    paths = []
    for seed in (0, 1):
        net = models.squeezenet1_1(weights=None)
        torch.manual_seed(seed)
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.1)
        paths.append(tmp_path / f"{seed}.pth")
        torch.save(net.state_dict(), paths[-1])
    return paths


def test_a_frozen_network_can_be_stored_by_its_digest(path, state_dicts, monkeypatch):
    hasher = DSHHasher(4, backbone="squeezenet1_1", weights=state_dicts[0], **NET)
    hasher.fit(IMAGES, LABELS)
    skhash.save(hasher, path, backbone="digest")
    assert path.stat().st_size < 100_000 < state_dicts[0].stat().st_size
    monkeypatch.setattr(models, "get_model", only_on_meta(models.get_model))
    loaded = skhash.load(path, weights=state_dicts[0])
    np.testing.assert_array_equal(
        loaded.decision_function(IMAGES), hasher.decision_function(IMAGES)
    )
    with pytest.raises(ValueError, match=r"other weights of 'squeezenet1_1'.*give the path"):
        skhash.load(path, weights=state_dicts[1])
    with pytest.raises(OSError, match=r"missing\.pth"):
        skhash.load(path, weights="missing.pth")


def test_a_trained_network_is_stored_in_full_all_the_same(again, state_dicts):
    hasher = DSHHasher(
        4, backbone="squeezenet1_1", weights=state_dicts[0], trainable="all", **NET
    ).fit(IMAGES, LABELS)
    loaded = again(hasher, backbone="digest")
    np.testing.assert_array_equal(
        loaded.decision_function(IMAGES), hasher.decision_function(IMAGES)
    )


@pytest.mark.parametrize("trainable", ["head", "all"])
def test_a_network_of_ones_own_is_given_again(path, trainable):
    hasher = DSHHasher(4, backbone=Net(), trainable=trainable, **NET).fit(IMAGES, LABELS)
    skhash.save(hasher, path)
    given = Net()
    weights = given.layers[0].weight.clone()
    for modules in (given, [nn.Linear(2, 2), given]):
        loaded = skhash.load(path, modules=modules)
        np.testing.assert_array_equal(
            loaded.decision_function(IMAGES), hasher.decision_function(IMAGES)
        )
    assert torch.equal(given.layers[0].weight, weights)
    loaded.fit(IMAGES, LABELS)
    np.testing.assert_array_equal(
        loaded.decision_function(IMAGES), hasher.decision_function(IMAGES)
    )


@pytest.mark.parametrize("modules", [None, [], nn.Linear(2, 2), Net(n_maps=5)])
def test_a_network_of_ones_own_must_be_given_again(path, modules):
    skhash.save(DSHHasher(backbone=Net()), path)
    with pytest.raises(ValueError, match=r"model\.skhash .*Net, which must be given"):
        skhash.load(path, modules=modules)


def test_a_backbone_of_ones_own_may_be_given_with_or_without_preprocessing(again):
    features = ImageFeatures(Backbone(Net(), 40, mean=[0.5] * 3)).fit(IMAGES)
    for given in (Net(), Backbone(Net())):
        loaded = again(features, modules=given)
        np.testing.assert_array_equal(loaded.transform(IMAGES), features.transform(IMAGES))


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v3_small"])
def test_a_network_of_torchvision_is_known_wherever_it_comes_from(again, name):
    net = models.get_model(name, weights=None)
    features = ImageFeatures(net, image_size=64).fit(IMAGES)
    np.testing.assert_array_equal(again(features).transform(IMAGES), features.transform(IMAGES))


@pytest.mark.parametrize("output", ["pool", "fc6", "fc7"])
def test_the_output_of_a_network_of_torchvision_is_known(output):
    net = make_backbone("alexnet", None, output=output, random_state=0).net
    assert _networks._recognise(net) == ("alexnet", output)


def test_a_network_of_torchvision_that_was_changed_is_ones_own(again):
    backbone = make_backbone("squeezenet1_1", None, random_state=0)
    backbone.net.features[1] = nn.Tanh()
    features = ImageFeatures(backbone, image_size=32).fit(IMAGES)
    with pytest.raises(ValueError, match="SqueezeNet, which must be given"):
        again(features)
    loaded = again(features, modules=backbone.net)
    np.testing.assert_array_equal(loaded.transform(IMAGES), features.transform(IMAGES))


def test_hooks_are_not_dropped_in_silence(path):
    hasher = fitted("DSHHasher")
    hasher.head_.register_forward_hook(lambda *_: None)
    with pytest.raises(TypeError, match=r"DSHHasher\.head_ has hooks"):
        skhash.save(hasher, path)


@pytest.mark.slow
def test_loading_vgg16_takes_less_than_a_second(path):
    skhash.save(ImageFeatures("vgg16", weights=None).fit(IMAGES), path)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        skhash.load(path)
        times.append(time.perf_counter() - start)
    assert min(times) < 1


# What is refused at save.


class Mine(skhash.LSH):
    """An estimator of somebody's own."""


def endless(items):
    """A list that contains itself."""
    items.append(items)
    return items


def embed(words):
    return np.ones((len(words), 3))


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (lambda: DSHHasher(callbacks=[print]), r"DSHHasher\.callbacks\[0\].*callbacks=None"),
        (lambda: SemanticTargets(embed), r"SemanticTargets\.target .*function.*dict of vectors"),
        (lambda: skhash.TagITQ(target=embed), r"TagITQ\.target .*function"),
        (lambda: Mine(), r"Mine is of type .*\.Mine.*skhash\.save supports"),
        (lambda: SVC(), r"SVC is of type sklearn\..*skhash\.save supports .*Pipeline"),
        (
            lambda: make_pipeline(FunctionTransformer(np.sqrt), skhash.LSH()),
            r"Pipeline\.steps\[0\]\[1\] is of type .*FunctionTransformer",
        ),
        (lambda: skhash.LSH(random_state=object()), r"LSH\.random_state .*object.*use numbers"),
        (lambda: skhash.LSH(random_state={1, 2}), r"LSH\.random_state .*set"),
        (lambda: skhash.LSH(random_state=np.longdouble(1)), r"LSH\.random_state .*longdouble"),
        (lambda: skhash.LSH(random_state={((1,),): 3}), r"LSH\.random_state has the key"),
        (lambda: skhash.LSH(random_state=endless([])), r"LSH\.random_state\[0\] .*contains itself"),
        (
            lambda: skhash.LSH(random_state=torch.eye(2).to_sparse()),
            r"LSH\.random_state is a tensor",
        ),
        (lambda: skhash.LSH(random_state=torch.ones(2, device="meta")), r"a tensor .*no data"),
    ],
)
def test_what_is_no_data_is_refused_and_the_old_file_stays(saved, estimator, message):
    before = saved.read_bytes()
    with pytest.raises(TypeError, match=message):
        skhash.save(estimator(), saved)
    assert saved.read_bytes() == before


def test_a_save_that_fails_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(archive, *arguments):
        archive.fp.write(b"half a file")
        raise OSError("no space left")

    monkeypatch.setattr(_files, "_write_array", fail)
    with pytest.raises(OSError, match="no space left"):
        skhash.save(fitted("ITQ"), saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [(("LSH", "a"), "estimator"), ((skhash.LSH, "a"), "estimator"), ((skhash.LSH(), 3), "path")],
)
def test_wrong_arguments_are_named(arguments, name):
    with pytest.raises(TypeError, match=f"'{name}' parameter"):
        skhash.save(*arguments)


def test_an_unknown_way_to_keep_a_backbone_is_refused(path):
    with pytest.raises(ValueError, match="backbone"):
        skhash.save(skhash.LSH(), path, backbone="nothing")


# What is refused at load.


def test_a_truncated_file_is_refused_at_any_length(saved):
    content = saved.read_bytes()
    lengths = {*range(64), *range(len(content) - 64, len(content))}
    for length in lengths | {*range(64, len(content), len(content) // 100)}:
        saved.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"model\.skhash is .*Save the estimator again"):
            skhash.load(saved)


def test_a_flipped_bit_is_refused_anywhere(saved):
    content = saved.read_bytes()
    places = {*range(64), *range(len(content) - 64, len(content))}
    for i, place in enumerate(places | {*range(64, len(content), len(content) // 300)}):
        damaged = bytearray(content)
        damaged[place] ^= 1 << i % 8
        saved.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.skhash is .*Save the estimator again"):
            skhash.load(saved)


def other_files(folder):
    """Files of other kinds, by what they are."""
    files = {name: folder / name for name in ("empty", "text", "pickle", "npz", "state dict")}
    files["empty"].write_bytes(b"")
    files["text"].write_text("no model" * 100)
    files["pickle"].write_bytes(pickle.dumps(skhash.LSH()))
    np.savez(files["npz"].open("wb"), np.eye(3))
    torch.save({"a": torch.ones(3)}, files["state dict"])
    files["index"] = folder / "index"
    HammingNeighbors().fit(np.eye(8, dtype=np.uint8)).save(files["index"])
    return files


def test_other_files_are_refused(tmp_path):
    for kind, file in other_files(tmp_path).items():
        if file.is_file():
            with pytest.raises(ValueError, match=f"{kind} is .*Save the estimator again"):
                skhash.load(file)


@pytest.mark.parametrize(
    "write",
    [
        lambda file: file.write(b"something else"),
        lambda file: np.savez(file, np.eye(3)),
        lambda file: torch.save({"a": torch.ones(3)}, file),
    ],
)
def test_other_files_of_the_package_are_refused(path, write):
    write_checked(path, write)
    with pytest.raises(ValueError, match=r"model\.skhash is not a valid file of skhash\.save"):
        skhash.load(path)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(OSError, match="folder"):
        skhash.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="missing"):
        skhash.load(tmp_path / "missing")


def test_a_file_of_a_newer_format_is_refused(saved):
    edit(saved, lambda about: about.update(format=2, skhash="9.9"))
    with pytest.raises(ValueError, match=r"model\.skhash .*skhash 9\.9 in format 2.*upgrade"):
        skhash.load(saved)


def test_a_parameter_of_a_newer_release_is_refused(path):
    skhash.save(skhash.LSH(), path)
    edit(path, lambda about: about["nodes"][-1]["params"].update(novel=1))
    with pytest.raises(ValueError, match=r"skhash\.LSH has a parameter 'novel'.*upgrade"):
        skhash.load(path)


def test_a_parameter_that_an_older_release_had_not_has_its_default(path):
    skhash.save(skhash.LSH(8, random_state=3), path)
    edit(path, lambda about: about["nodes"][-1]["params"].pop("n_bits") and None)
    loaded = skhash.load(path)
    assert loaded.get_params() == skhash.LSH(random_state=3).get_params()


@pytest.mark.parametrize("kind", ["estimator", "part", "module"])
@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "this.anything",
        "sklearn.svm.SVC",
        "skhash.codes.pack",
        "skhash.save",
        "skhash.codes",
        "torch.nn.Bilinear",
        "builtins.object",
    ],
)
def test_classes_outside_of_the_list_are_refused(path, kind, name):
    skhash.save(skhash.LSH(), path)
    names = {"params": {}, "state": {}, "attributes": {}}
    edit(path, lambda about: about.update(nodes=[{kind: name, **names}]))
    with pytest.raises(
        ValueError,
        match=rf"model\.skhash .*names '{name}', which skhash.load does not accept as {kind}",
    ):
        skhash.load(path)
    assert "this" not in sys.modules


def test_a_part_is_no_estimator(path):
    skhash.save(skhash.LSH(), path)
    edit(path, lambda about: about["nodes"][-1].update(estimator="skhash.TagCodes"))
    with pytest.raises(
        ValueError, match=r"'skhash\.TagCodes', which skhash.load does not accept as estimator"
    ):
        skhash.load(path)


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        {},
        [{}],
        [[]],
        [3],
        [{"unknown": 1}],
        [{"list": [{"@": 0}]}],
        [{"list": [{"@": -1}]}],
        [{"list": [{"@": "0"}]}],
        [{"list": [[1]]}],
        [{"array": 99}],
        [{"array": "model.json"}],
        [{"number": "a", "dtype": "<f8"}],
        [{"sparse": "ndarray", "shape": [2, 2], "parts": [0, 0, 0]}],
        [{"sparse": "csr_array", "shape": [2, 2], "parts": [0, 0, 0]}],
        [{"estimator": "skhash.LSH", "params": 3, "state": {}}],
        [{"estimator": ["skhash.LSH"], "params": {}, "state": {}}],
        [{"torchvision": "no_model", "output": "pool", "weights": None}],
        [{"torchvision": "squeezenet1_1", "output": "pool", "weights": None}],
        [{"module": "torch.nn.ReLU", "attributes": {}}],
        [{"tensor": 99, "dtype": "float32"}],
    ],
    ids=str,
)
def test_a_file_that_makes_no_sense_is_refused(saved, nodes):
    edit(saved, lambda about: about.update(nodes=nodes))
    with pytest.raises(ValueError, match=r"model\.skhash (is not a valid file|cannot be loaded)"):
        skhash.load(saved)


@pytest.mark.parametrize("fault", ["objects", "compressed", "too long"])
def test_an_array_in_another_form_is_refused(path, fault):
    skhash.save(fitted("ITQ"), path)
    with np.load(read_checked(path)) as archive:
        members = {name: archive.zip.read(f"{name}.npy") for name in archive.files[:-1]}
        about = archive["model.json"]
    if fault == "objects":
        members["arr_0"] = members["arr_0"].replace(b"'<f4'", b"'|O' ").replace(b"'<f8'", b"'|O' ")
    elif fault == "too long":
        members["arr_0"] = members["arr_0"][:-4]

    def write(file):
        kind = zipfile.ZIP_DEFLATED if fault == "compressed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(file, "w", kind) as archive:
            for name, member in members.items():
                archive.writestr(f"{name}.npy", member)
            archive.writestr("model.json", about)

    write_checked(path, write)
    with pytest.raises(ValueError, match=r"model\.skhash (is not a valid file|cannot be loaded)"):
        skhash.load(path)


def write_file(path, nodes, arrays=(), compression=zipfile.ZIP_STORED):
    """A file with a correct checksum, of any content."""

    def write(file):
        np.savez(file, *arrays)
        with zipfile.ZipFile(file, "a") as archive:
            text = json.dumps({"format": 1, "nodes": nodes})
            archive.writestr("model.json", text, compress_type=compression)

    write_checked(path, write)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_a_small_file_cannot_fill_the_memory(path, compression):
    write_file(path, [{"list": [0] * 2_000_000}], compression=compression)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match=r"model\.skhash .*model\.json is compressed"):
        skhash.load(path)
    # A text of one letter, of a dtype with room for 10^8.
    write_file(path, [{"number": "a", "dtype": "<U100000000"}])
    assert skhash.load(path).dtype == "<U1"
    # 2 ** 100 numbers in one array.
    lists = [{"list": [0, 0]}, *({"list": [{"@": i}, {"@": i}]} for i in range(99))]
    write_file(path, [*lists, {"number": {"@": 99}, "dtype": "<f8"}])
    with pytest.raises(ValueError, match=r"model\.skhash cannot be loaded"):
        skhash.load(path)


@pytest.mark.parametrize("kind", ["dict", "table"])
def test_a_key_whose_hash_takes_forever_is_refused(path, kind):
    nodes = [{"tuple": []}, *({"tuple": [{"@": i}, {"@": i}]} for i in range(100))]
    made = {"dict": [[{"@": 100}, 1]]}
    if kind == "table":
        nodes.append({"list": [{"@": 100}]})
        made = {"table": {"@": 101}, "rows": 0}
    write_file(path, [*nodes, made], [np.eye(1)])
    with pytest.raises(ValueError, match=r"model\.skhash cannot be loaded: .*has a key"):
        skhash.load(path)


@pytest.mark.parametrize("position", [-1, 625, 2**28])
def test_a_random_state_outside_of_its_words_is_refused(path, position):
    state = {"tuple": ["MT19937", {"@": 0}, position, 0, 0.0]}
    write_file(path, [{"array": 0}, state, {"random": {"@": 1}}], [np.arange(624, dtype="<u4")])
    with pytest.raises(ValueError, match=r"model\.skhash cannot be loaded: .*random state"):
        skhash.load(path)


def test_only_arrays_of_numbers_and_text_are_read(path):
    write_file(path, [{"array": 0}], [np.zeros(2, [("a", "<f8"), ("b", "<i4")])])
    with pytest.raises(ValueError, match=r"arr_0\.npy holds something else"):
        skhash.load(path)
    write_file(path, [{"number": 1, "dtype": "O"}])
    with pytest.raises(ValueError, match="number of dtype 'O'"):
        skhash.load(path)


def test_a_digest_is_of_a_network_of_torchvision_only(path):
    write_file(path, [{"torchvision": "timm/resnet18", "output": "pool", "digest": "0"}])
    with pytest.raises(ValueError, match="torchvision has no model 'timm/resnet18'"):
        skhash.load(path)


@pytest.mark.parametrize("aligned", [True, False])
def test_arrays_come_back_aligned_and_as_they_were(path, aligned):
    hasher = fitted("TagITQ")
    skhash.save(hasher, path)
    if not aligned:
        edit(path, lambda about: None)  # written by numpy.savez, whose arrays begin anywhere
    loaded = skhash.load(path)
    arrays = {k: v for k, v in vars(hasher).items() if isinstance(v, np.ndarray) and v.dtype != "O"}
    assert len(arrays) > 3
    for name, array in arrays.items():
        again = getattr(loaded, name)
        np.testing.assert_array_equal(again, array, err_msg=name, strict=True)
        assert again.flags.aligned and again.flags.writeable
        assert again.flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize("text", ["", "[]", "{", "3", "{}", '{"format": "1"}', "é"])
def test_a_description_that_makes_no_sense_is_refused(saved, text):
    edit(saved, lambda about: text or " ")
    with pytest.raises(ValueError, match=r"model\.skhash (is not a valid file|cannot be loaded)"):
        skhash.load(saved)


# What a file says of itself.


def described(path):
    with np.load(path) as archive:  # as anybody can read it
        return json.loads(archive["model.json"])


def test_a_file_says_what_it_needs(saved):
    about = described(saved)
    assert about["skhash"] == skhash.__version__
    # Without the build, which some wheels leave out of their metadata.
    assert about["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert about["versions"]["numpy"] == np.__version__
    assert about["estimator"] == "Pipeline"
    skhash.save(skhash.LSH(), saved)
    assert described(saved)["versions"].keys() == {"numpy", "scipy", "scikit-learn"}


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (lambda: make_pipeline(StandardScaler(), skhash.LSH()), "features"),
        (lambda: make_pipeline(ImageFeatures(), skhash.LSH()), "images"),
        (lambda: DSHHasher(), "features or images"),
        (lambda: DSHHasher(backbone=None), "features"),
        (lambda: skhash.WeaklySupervisedHasher(DSHHasher(backbone="vgg16")), "images"),
        (lambda: fitted("WeaklySupervisedHasher"), "features"),
        (lambda: SemanticSpace(), "tags"),
        (lambda: HammingNeighbors(), "codes"),
    ],
)
def test_a_file_says_what_goes_in(path, estimator, kind):
    skhash.save(estimator(), path)
    assert described(path)["input"] == kind
