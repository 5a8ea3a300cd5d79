"""The steps of `benchmarks.steps` in PyTorch: the same networks, weights, batches and losses.

bfloat16 is autocast, which is how people train in it: parameters and Adam stay float32, products
and convolutions are bfloat16, and group normalisation is float32. Importing this needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks import steps, torch_networks
from benchmarks.steps import Training
from experiments.speakers import features
from experiments.speakers.losses import ANGLE, SCALE
from experiments.speakers.networks import TDNN

Network = Any
LONGEST = 5.0  # gradient of the speakers, as their experiment clips it


class Twin(NamedTuple):
    """A network and what a step of it needs."""

    network: Network
    predict: Callable[[], torch.Tensor]
    """What is compared with ours, without dropout and in float32."""
    step: Callable[[], torch.Tensor]
    """Updates the network once and returns the loss, and does not wait for the device."""


class Recipe(NamedTuple):
    """What the three have in common."""

    device: str
    dtype: str
    compiled: bool

    def autocast(self) -> Any:
        enabled = self.dtype == "bfloat16"
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=enabled)

    def tensors(self, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {k: torch.from_numpy(np.array(x)).to(self.device) for k, x in batch.items()}

    def called(self, network: Network) -> Network:
        return torch.compile(network, dynamic=False) if self.compiled else network

    def adam(self, network: Network, rate: float) -> Any:
        trained = [p for p in network.parameters() if p.requires_grad]
        return torch.optim.Adam(trained, rate, fused=self.device == "cuda")


def ships(made: Training, recipe: Recipe, *, quick: bool) -> Twin:
    settings = steps.ships_settings(recipe.dtype, quick=quick)
    network = torch_networks.UNet(settings.width, settings.depth)
    torch_networks.copy_unet(made.state["params"], network)
    network = network.to(recipe.device, memory_format=torch.channels_last)
    called, optimiser = recipe.called(network), recipe.adam(network, settings.learning_rate)
    batch = recipe.tensors(made.batch)

    def logits(of: Network, image: torch.Tensor) -> torch.Tensor:
        return of((image.float() / 127.5 - 1.0).permute(0, 3, 1, 2))

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        bits = torch.rand(len(batch["image"]), 3, device=recipe.device) < 0.5
        image, mask = _turned(batch["image"], bits), _turned(batch["mask"], bits).float()
        with recipe.autocast():
            p = torch.sigmoid(logits(called, image).float())
        loss = 1 - 2 * (p * mask).sum() / (p.sum() + mask.sum())
        loss.backward()
        optimiser.step()
        return loss

    return Twin(network, lambda: logits(network, batch["image"]), step)


def _turned(x: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """One of the eight symmetries of the square for each crop [B, N, N, ...]."""
    chosen = bits.T.reshape(3, -1, *[1] * (x.ndim - 1))
    x = torch.where(chosen[0], x.flip(1), x)
    x = torch.where(chosen[1], x.flip(2), x)
    return torch.where(chosen[2], x.transpose(1, 2), x)


def text(made: Training, recipe: Recipe, *, quick: bool) -> Twin:
    settings = steps.text_settings(quick=quick)
    words, size = made.state["frozen"]["static"].shape[1:]
    shape = (settings.widths, settings.maps, settings.dropout)
    network = torch_networks.TextCNN(words, size, *shape)
    torch_networks.copy_textcnn(made.state["params"], made.state["frozen"], network)
    network = network.to(recipe.device)
    called, optimiser = recipe.called(network), recipe.adam(network, settings.learning_rate)
    batch = recipe.tensors(made.batch)
    ids, labels = batch["ids"][0].long(), batch["labels"][0]

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        with recipe.autocast():
            z = called(ids).float()
        loss = functional.binary_cross_entropy_with_logits(z, labels)
        loss.backward()
        optimiser.step()
        with torch.no_grad():  # without a word to the processor, which would have to wait for it
            weight = network.head.weight
            weight.mul_((settings.max_norm / weight.norm()).clamp(max=1.0))
        return loss

    def predict() -> torch.Tensor:
        network.eval()
        z = network(ids)
        network.train()
        return z

    return Twin(network, predict, step)


def speakers(made: Training, recipe: Recipe, *, quick: bool) -> Twin:
    settings = steps.speakers_settings(quick=quick)
    shape = (features.BANDS, settings.voices, settings.width, TDNN.CONTEXTS)
    network = torch_networks.TDNN(*shape)
    torch_networks.copy_tdnn(made.state["params"], network)
    network = network.to(recipe.device)
    called, optimiser = recipe.called(network), recipe.adam(network, settings.learning_rate)
    batch, scale = recipe.tensors(made.batch), recipe.tensors(made.state["scale"])
    labels = batch["speakers"].long()

    def step() -> torch.Tensor:
        optimiser.zero_grad()
        segments = (batch["segments"] - scale["mean"]) / scale["deviation"]
        with recipe.autocast():
            cosines = called(segments)[2].float()
        loss = torch_networks.angular_margin(cosines, labels, SCALE, ANGLE).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LONGEST)
        optimiser.step()
        return loss

    def predict() -> torch.Tensor:
        return functional.normalize(network(batch["segments"])[0])

    return Twin(network, predict, step)


TWINS: dict[str, Callable[..., Twin]] = {"ships": ships, "text": text, "speakers": speakers}
