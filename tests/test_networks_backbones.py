import pickle
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from skhash.networks import Backbone, _torchvision, make_backbone
from skhash.networks._torchvision import models


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=generator)


@pytest.fixture(scope="module")
def alexnet():
    torch.manual_seed(0)
    return models.alexnet(weights=None).eval()


@pytest.fixture(scope="module")
def alexnet_file(alexnet, tmp_path_factory):
    return saved(alexnet.state_dict(), tmp_path_factory.mktemp("alexnet"))


def normalised(images):
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (images / 255 - mean) / std


def saved(state, folder, name="weights.pth"):
    torch.save(state, folder / name)
    return folder / name


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.second = nn.Conv2d(4, 5, 3)

    def forward(self, x):
        return self.second(self.first(x))


def test_images_are_normalised_and_maps_averaged_over_positions(images):
    features = Backbone(nn.Identity())(images)
    torch.testing.assert_close(features, normalised(images).mean((2, 3)))
    assert features.dtype == torch.float32


def test_features_of_any_other_shape_are_refused(images):
    with pytest.raises(ValueError, match=r"backbone must give .*\(3, 3, 4096\)"):
        Backbone(nn.Flatten(2))(images)


@pytest.mark.parametrize(
    ("name", "n_features"),
    [
        ("vgg11", 512),
        ("resnet18", 512),
        ("squeezenet1_1", 512),
        ("mobilenet_v3_small", 576),
        ("shufflenet_v2_x0_5", 1024),
        ("densenet121", 1024),
    ],
)
def test_every_kind_of_model_gives_what_enters_its_classifier(name, n_features):
    backbone = make_backbone(name, None, image_size=64, random_state=0)
    assert backbone.n_features_out() == n_features
    assert backbone.image_size == 64


def test_pooled_features_are_the_last_maps_averaged(images, alexnet, alexnet_file):
    backbone = make_backbone("alexnet", alexnet_file)
    wide = torch.nn.functional.interpolate(images.float(), 128).to(torch.uint8)
    maps = alexnet.features(normalised(wide))
    assert maps.shape[2:] == (3, 3)
    torch.testing.assert_close(backbone(wide), maps.mean((2, 3)))


@pytest.mark.parametrize(("output", "n_layers"), [("fc6", 3), ("fc7", 6)])
def test_fully_connected_features_end_with_their_relu(
    images, alexnet, alexnet_file, output, n_layers
):
    features = make_backbone("alexnet", alexnet_file, output=output)(images)
    maps = alexnet.avgpool(alexnet.features(normalised(images)))
    expected = alexnet.classifier[:n_layers](maps.flatten(1))
    torch.testing.assert_close(features, expected)
    assert features.shape == (3, 4096)
    assert (features >= 0).all()
    assert (features == 0).any()


def test_models_without_fully_connected_layers_say_so():
    with pytest.raises(ValueError, match=r"output='fc7' needs .* backbone='resnet18' has 0"):
        make_backbone("resnet18", None, output="fc7")
    with pytest.raises(ValueError, match="output='fc6' is for torchvision models"):
        make_backbone(nn.Identity(), output="fc6")


def test_the_size_and_normalisation_are_those_of_the_weights():
    assert make_backbone("resnet18", None).image_size == 224
    backbone = make_backbone("mnasnet0_5", None)
    preset = models.get_model_weights("mnasnet0_5").DEFAULT.transforms()
    assert backbone.image_size == preset.crop_size[0]
    np.testing.assert_allclose(backbone.mean.flatten(), preset.mean)
    np.testing.assert_allclose(backbone.std.flatten(), preset.std)


def test_a_network_of_your_own_is_copied(images):
    torch.manual_seed(0)
    net = Small()
    backbone = make_backbone(net, image_size=64)
    torch.testing.assert_close(backbone(images), net.eval()(normalised(images)).mean((2, 3)))
    backbone.set_trainable("all")
    with torch.no_grad():
        backbone.net.second.bias.add_(1)
    assert not torch.equal(backbone.net.second.bias, net.second.bias)


def test_weights_of_a_network_of_your_own(images, tmp_path):
    torch.manual_seed(0)
    net = Small().eval()
    backbone = make_backbone(Small(), saved(net.state_dict(), tmp_path))
    torch.testing.assert_close(backbone(images), net(normalised(images)).mean((2, 3)))


def test_weights_may_lack_what_is_not_used(images, alexnet, tmp_path):
    whole = alexnet.features(normalised(images)).mean((2, 3))
    convolutions = {f"features.{k}": v for k, v in alexnet.features.state_dict().items()}
    for state in (convolutions, alexnet.features.state_dict()):
        backbone = make_backbone("alexnet", saved(state, tmp_path))
        torch.testing.assert_close(backbone(images), whole)
    halves = {key: value.half() for key, value in convolutions.items()}
    backbone = make_backbone("alexnet", saved(halves, tmp_path))
    torch.testing.assert_close(backbone(images), whole, rtol=0.01, atol=0.01)
    assert backbone.net.features[0].weight.dtype == torch.float32


def test_weights_that_do_not_fit_are_refused(alexnet, tmp_path):
    convolutions = {k: v for k, v in alexnet.state_dict().items() if k.startswith("features")}
    with pytest.raises(ValueError, match=r"lacks 'classifier.1.weight' and 3 more"):
        make_backbone("alexnet", saved(convolutions, tmp_path), output="fc7")
    with pytest.raises(ValueError, match=r"lacks 'features\.3\.weight'"):
        lacking = {k: v for k, v in convolutions.items() if k != "features.3.weight"}
        make_backbone("alexnet", saved(lacking, tmp_path))
    with pytest.raises(ValueError, match=r"unknown 'features\.99\.weight'"):
        more = convolutions | {"features.99.weight": torch.zeros(1)}
        make_backbone("alexnet", saved(more, tmp_path))
    with pytest.raises(ValueError, match=r"features.0.bias"):
        wrong = convolutions | {"features.0.bias": torch.zeros(7)}
        make_backbone("alexnet", saved(wrong, tmp_path))


class Dangerous:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_files_that_are_no_state_dict_are_refused(alexnet, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing.pth"):
        make_backbone("alexnet", tmp_path / "missing.pth")
    whole = saved(alexnet.features.state_dict(), tmp_path).read_bytes()
    (tmp_path / "torn.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"torn.pth.* cannot be read as a state dict"):
        make_backbone("alexnet", tmp_path / "torn.pth")
    with pytest.raises(ValueError, match="is not a state dict"):
        make_backbone("alexnet", saved({"epoch": 3}, tmp_path))


def test_weights_cannot_run_code(tmp_path):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Dangerous(tmp_path / "touched"), 2))
    with pytest.raises(ValueError, match="cannot be read as a state dict"):
        make_backbone("alexnet", tmp_path / "weights.pth")
    assert not (tmp_path / "touched").exists()


def test_safetensors_are_read(images, tmp_path):
    torch.manual_seed(0)
    net = Small().eval()
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    backbone = make_backbone(Small(), tmp_path / "weights.safetensors")
    torch.testing.assert_close(backbone(images), net(normalised(images)).mean((2, 3)))


def test_unknown_models_are_refused():
    for name in ("vgg17", "fcn_resnet50"):
        with pytest.raises(ValueError, match=f"backbone='{name}' is not a classification model"):
            make_backbone(name, None)


def test_a_failed_download_says_what_to_do(monkeypatch):
    def get_model(name, weights):
        assert weights == "DEFAULT"
        raise URLError("no network")

    monkeypatch.setattr(models, "get_model", get_model)
    with pytest.raises(OSError, match=r"weights of 'vgg11' .*no network.*path of a state dict"):
        make_backbone("vgg11")


def test_the_random_state_decides_random_weights_and_nothing_else():
    before = torch.random.get_rng_state()
    first, again, other = (
        make_backbone("resnet18", None, random_state=seed).fingerprint() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_fingerprint_tells_whatever_changes_the_features():
    torch.manual_seed(0)
    net = Small()
    prints = {Backbone(net).fingerprint(), Backbone(net, image_size=32).fingerprint()}
    for other in ({"std": (1, 1, 1)}, {"mean": (0, 0, 0)}, {"crop": 0.9}, {"interpolation": "box"}):
        prints.add(Backbone(net, **other).fingerprint())
    prints.add(Backbone(nn.Sequential(net, nn.ReLU())).fingerprint())
    with torch.no_grad():
        net.second.bias[0] += 1
    prints.add(Backbone(net).fingerprint())
    assert len(prints) == 8


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("head", set()),
        ("all", {"first", "second"}),
        (["second"], {"second"}),
        (["first.0"], {"first.0.weight", "first.0.bias"}),
        (["first.0.weight", "second.bias"], {"first.0.weight", "second.bias"}),
    ],
)
def test_what_is_trained(trainable, expected):
    backbone = Backbone(Small())
    backbone.set_trainable(trainable)
    for name, parameter in backbone.net.named_parameters():
        assert parameter.requires_grad == (name in expected or name.split(".")[0] in expected)
    assert backbone.frozen == (trainable == "head")


def test_unknown_names_to_train_are_refused():
    with pytest.raises(ValueError, match=r"trainable names 'sec', .* only first, second"):
        Backbone(Small()).set_trainable(["sec"])


def test_frozen_parts_stay_in_evaluation_mode(images):
    backbone = Backbone(Small())
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    for trainable in ("head", ["second"]):
        backbone.set_trainable(trainable)
        torch.testing.assert_close(backbone.train()(images), backbone.eval()(images))
        assert not backbone.train().net.first[2].training
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key])
    backbone.set_trainable("all")
    assert not torch.allclose(backbone.train()(images), backbone.eval()(images))
    assert not torch.equal(backbone.net.first[1].running_mean, state["net.first.1.running_mean"])


def test_only_the_known_failure_of_torchvision_is_mended(monkeypatch):
    def import_module(name):
        raise RuntimeError("something else")

    monkeypatch.setattr(_torchvision.importlib, "import_module", import_module)
    with pytest.raises(RuntimeError, match="something else"):
        _torchvision._import_models()


def test_damage_to_weights_that_torch_reads_is_refused(tmp_path):
    file = tmp_path / "weights.pth"
    state = make_backbone("squeezenet1_1", None, image_size=32).net.state_dict()
    torch.save(state, file)
    whole = bytearray(file.read_bytes())
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(512) + whole[middle + 512 :])
    with pytest.raises(ValueError, match=r"weights.pth' cannot be read as a state dict"):
        make_backbone("squeezenet1_1", file)
    state["features.0.bias"][3] = float("nan")
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"damaged: 'features.0.bias' has NaN"):
        make_backbone("squeezenet1_1", file)


class Gives(nn.Module):
    """A network that gives what a function makes of the images."""

    def __init__(self, made):
        super().__init__()
        self.made = made

    def forward(self, images):
        return self.made(images)


@pytest.mark.parametrize(
    ("made", "got"),
    [
        (lambda x: x.mean((1, 2, 3)), r"got \(3,\)"),
        (lambda x: x[:, :0, 0, 0], r"got \(3, 0\)"),  # OpenVINO would end the process
        (lambda x: x[:, :, :0], r"got \(3, 3, 0, 64\)"),
        (lambda x: (x.mean((2, 3)), x), "got a tuple"),
        (lambda x: {"features": x}, "got a dict"),
    ],
)
def test_what_is_no_features_is_refused(images, made, got):
    with pytest.raises(ValueError, match=f"the backbone must give a tensor of features.*{got}"):
        Backbone(Gives(made), 64)(images)
