"""The networks of ships, text and speakers in PyTorch, as people write them, with our weights.

Weights are copied by position; the parameters' names and layouts differ. Importing this needs
PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

# --- ships ----------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.norm2 = (nn.GroupNorm(channels // 8, channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(x)), inplace=True)


class UNet(nn.Module):
    def __init__(self, width: int = 16, depth: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        pairs = zip([3, *widths], widths, strict=False)
        self.encoder = nn.ModuleList(Block(i, o) for i, o in pairs)
        self.narrow = nn.ModuleList(nn.Conv2d(2 * o, o, 1) for o in widths[:-1])
        self.decoder = nn.ModuleList(Block(2 * o, o) for o in widths[:-1])
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder[0](x)
        skips = []
        for block in list(self.encoder)[1:]:
            skips.append(x)
            x = block(functional.max_pool2d(x, 2))
        for level in reversed(range(len(self.decoder))):
            up = functional.interpolate(self.narrow[level](x), scale_factor=2)
            x = self.decoder[level](torch.cat([skips[level], up], dim=1))
        return self.head(x)[:, 0]


def copy_unet(params: Any, twin: UNet) -> None:
    """From the parameters of `experiments.ships.unet.UNet` as nested dictionaries."""

    def convolution(conv: nn.Conv2d, ours: Mapping[str, Any]) -> None:
        kernel = np.asarray(ours["kernel"])  # a 1x1 convolution there is a linear layer here
        put(conv.weight, kernel if kernel.ndim == 4 else kernel[None, None], 3, 2, 0, 1)
        if conv.bias is not None:
            put(conv.bias, ours["bias"])

    for name in ("encoder", "decoder"):
        for k, block in enumerate(getattr(twin, name)):
            for part in ("conv1", "conv2"):
                convolution(getattr(block, part), params[name][k][part])
            for part in ("norm1", "norm2"):
                put(getattr(block, part).weight, params[name][k][part]["scale"])
                put(getattr(block, part).bias, params[name][k][part]["bias"])
    for k, conv in enumerate(twin.narrow):
        convolution(conv, params["narrow"][k])
    convolution(twin.head, params["head"])


# --- text -----------------------------------------------------------------------------------------


class TextCNN(nn.Module):
    def __init__(self, words: int, size: int, widths: Sequence[int], maps: int, dropout: float):
        super().__init__()
        self.static = nn.Embedding(words, size, padding_idx=0)
        self.tuned = nn.Embedding(words, size, padding_idx=0)
        self.static.weight.requires_grad_(False)
        self.filters = nn.ModuleList(
            nn.Conv1d(size, maps, width, padding="same") for width in widths
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(maps * len(widths), 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = (self.static(ids) + self.tuned(ids)).transpose(1, 2)
        beyond = 1e9 * (ids == 0)[:, None]
        features = [functional.relu((conv(x) - beyond).amax(2)) for conv in self.filters]
        return self.head(self.dropout(torch.cat(features, 1)))[:, 0]


def copy_textcnn(params: Any, frozen: Any, twin: TextCNN) -> None:
    """From the first of the networks that an experiment trains side by side."""
    put(twin.static.weight, frozen["static"][0])
    put(twin.tuned.weight, params["tuned"][0])
    for k, conv in enumerate(twin.filters):
        weight, bias = conv.parameters()
        put(weight, params["filters"][k]["kernel"][0], 2, 1, 0)
        put(bias, params["filters"][k]["bias"][0])
    put(twin.head.weight, params["head"]["kernel"][0], 1, 0)
    put(twin.head.bias, params["head"]["bias"][0])


# --- speakers -------------------------------------------------------------------------------------


class TDNN(nn.Module):
    """Embeddings, logits and cosines of segments [B, T, bands]."""

    def __init__(self, bands: int, speakers: int, width: int, contexts: Sequence[Any]):
        super().__init__()
        sizes = [bands, *[width] * (len(contexts) - 1)]
        self.layers = nn.ModuleList(
            nn.Conv1d(size, width, taps, stride=stride, dilation=distance)
            for size, (taps, distance, stride) in zip(sizes, contexts, strict=True)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in contexts)
        self.pooled = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, speakers)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(functional.relu(layer(x.transpose(1, 2))).transpose(1, 2))
        mean = x.mean(1)
        deviation = torch.sqrt((x - mean[:, None]).square().mean(1) + 1e-5)
        embedding = self.pooled(torch.cat([mean, deviation], -1))
        centres = functional.normalize(self.head.weight, eps=1e-6)
        cosines = functional.normalize(embedding, eps=1e-6) @ centres.T
        return embedding, self.head(embedding), cosines


def copy_tdnn(params: Any, twin: TDNN) -> None:
    """From the parameters of `experiments.speakers.networks.TDNN` as nested dictionaries."""
    for k, (layer, norm) in enumerate(zip(twin.layers, twin.norms, strict=True)):
        width, size, taps = layer.weight.shape
        kernel = np.asarray(params["layers"][k]["kernel"]).reshape(taps, size, width)
        put(layer.weight, kernel, 2, 1, 0)
        put(layer.bias, params["layers"][k]["bias"])
        put(norm.weight, params["norms"][k]["scale"])
        put(norm.bias, params["norms"][k]["bias"])
    for linear, ours in (
        (twin.pooled, params["pooled"]),
        (twin.head, params["head"]["linear"]),
    ):
        put(linear.weight, ours["kernel"], 1, 0)
        put(linear.bias, ours["bias"])


def angular_margin(
    cosines: torch.Tensor, labels: torch.Tensor, scale: float, angle: float
) -> torch.Tensor:
    """ArcFace's loss [B]; beyond an angle of π the cosine falls along a line."""
    turn = torch.tensor(angle, device=cosines.device)
    true = cosines.gather(1, labels[:, None])
    sine = torch.sqrt((1.0 - true.square()).clamp_min(1e-6))
    turned = true * turn.cos() - sine * turn.sin()
    turned = torch.where(true >= -turn.cos(), turned, true - angle * turn.sin())
    logits = scale * cosines.scatter(1, labels[:, None], turned)
    return functional.cross_entropy(logits, labels, reduction="none")


# --- all ------------------------------------------------------------------------------------------


def put(parameter: torch.Tensor, value: Any, *axes: int) -> None:
    """Overwrite a parameter with an array whose axes stand in another order."""
    array = np.asarray(value)
    array = np.transpose(array, axes or range(array.ndim))
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(array.copy()))
