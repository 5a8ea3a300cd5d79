# pyright: reportMissingImports=false
"""Record what other libraries compute, as `parity.json` beside this file.

    pip install monai segmentation-models-pytorch kornia keras optax torch
    python tests/recorded/make.py

Every line of the tables of `docs/parity.md` is a case: their call and the input's name.  Run this
again only to add one or to follow a new release; the tests need none of these libraries.
Logits and gradients are stored with the classes last.  Each gradient is that of the value with
respect to the logits; a loss that wants probabilities is given the sigmoid or the softmax of them.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import importlib.metadata
import importlib.util
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import kornia
import monai.losses
import numpy as np
import optax
import torch

jax.config.update("jax_enable_x64", True)
keras.config.set_floatx("float64")

# The package imports every encoder it has on the way to its losses, which need none of them.
_package = types.ModuleType("segmentation_models_pytorch")
_spec = importlib.util.find_spec("segmentation_models_pytorch")
assert _spec is not None, "pip install segmentation-models-pytorch"
_package.__path__ = list(_spec.submodule_search_locations or [])
sys.modules["segmentation_models_pytorch"] = _package
smp: Any = importlib.import_module("segmentation_models_pytorch.losses")

VERSIONS = ["torch", "monai", "segmentation-models-pytorch", "kornia", "keras", "optax", "jax"]
PAGE = (Path(__file__).parents[2] / "docs/parity.md").read_text()
CALLS = re.findall(r"^\| `([\w.]+)\.(\w+)\((.*?)\)` \| (\w+) \| `", PAGE, re.MULTILINE)


def inputs() -> dict[str, dict[str, Any]]:
    """Small batches, one for each thing that libraries disagree on."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(0, 2, shape).round(3)

    masks = rng.random((3, 5, 5)) < 0.35
    masks[2] = False  # an image without foreground

    ids = rng.integers(0, 4, (2, 6, 6))
    ids[1][ids[1] == 3] = 0  # an image without class 3

    complete = rng.permuted(np.repeat(np.arange(3), [9, 5, 2]).reshape(1, 16).repeat(2, 0), axis=1)
    absent = rng.integers(0, 3, (1, 4, 4))  # a batch without class 3
    void = rng.integers(0, 3, (2, 4, 4))
    void[:, 0] = 255  # a row without a label

    p = np.array([[0.9, 0.2, 0.6, 0.1], [0.3, 0.8, 0.1, 0.4]])
    examples = {
        "binary": (draw(3, 5, 5), masks.astype(int)),
        "multiclass": (draw(2, 6, 6, 4), ids),
        "complete": (draw(2, 4, 4, 3), complete.reshape(2, 4, 4)),
        "absent": (draw(1, 4, 4, 4), absent),
        "void": (draw(2, 4, 4, 3), void),
        "eight": (np.log(p / (1 - p)), np.array([[1, 0, 1, 0], [0, 1, 0, 0]])),
        "elements": (draw(24), (rng.random(24) < 0.35).astype(int)),
        "rows": (draw(8, 5), rng.integers(0, 5, 8)),
    }
    return {k: {"logits": z.tolist(), "labels": y.tolist()} for k, (z, y) in examples.items()}


# --- How each library wants its arguments ---------------------------------------------------------


def in_torch(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(torch.nn.functional, loss)
    wide = {k: torch.tensor(v, dtype=torch.float64) if k.endswith("weight") else v
            for k, v in options.items()}  # fmt: skip

    def call(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if loss == "kl_div":  # of a row from the next one
            logs = z.log_softmax(-1)
            return f(logs, logs.roll(1, 0), reduction="batchmean", **wide)
        if loss == "triplet_margin_loss":  # anchors, the next rows, and those after them
            return f(z, z.roll(1, 0), z.roll(2, 0), eps=0.0, **wide)
        if loss == "soft_margin_loss":
            y = 2 * y - 1
        return f(z, y if z.ndim > y.ndim else y.to(z.dtype), **wide)

    return call


def channels(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Move the classes to axis 1, or make the axis where one logit answers yes or no."""
    return z.movedim(-1, 1) if z.ndim > y.ndim else z[:, None]


def in_monai(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(monai.losses, loss)(**options)
    return lambda z, y: f(channels(z, y), y[:, None].to(z.dtype))


def in_smp(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(smp, loss)(**options)
    if loss == "MCCLoss":
        return lambda z, y: f(z.sigmoid(), y)
    if loss == "LovaszLoss":  # computes in float32 inside, and stumbles over float64 from outside
        return lambda z, y: f(channels(z, y).float(), y)
    if options["mode"] == "binary":
        return lambda z, y: f(channels(z, y), y.to(z.dtype))
    return lambda z, y: f(channels(z, y), y)


def in_kornia(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(kornia.losses, loss)

    def call(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if z.ndim == y.ndim:  # two classes, whose softmax is the sigmoid, on one row of pixels
            z, y = torch.stack([torch.zeros_like(z), z], 1)[:, :, None], y[:, None]
            return f(z, y, **options)
        return f(channels(z, y), y, **options)

    return call


def in_keras(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(keras.losses, loss)

    def call(z: jax.Array, y: jax.Array) -> jax.Array:
        if "hinge" in loss or "from_logits" in options:
            return f(y if z.ndim == y.ndim else jax.nn.one_hot(y, z.shape[-1]), z, **options)
        if z.ndim == y.ndim:
            return f(y, jax.nn.sigmoid(z), **options)
        return f(jax.nn.one_hot(y, z.shape[-1]), jax.nn.softmax(z), **options)

    return call


def in_optax(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(optax.losses, loss)

    def call(z: jax.Array, y: jax.Array) -> jax.Array:
        if loss == "kl_divergence_with_log_targets":  # of a row from the next one
            logs = jax.nn.log_softmax(z)
            return f(logs, jnp.roll(logs, 1, 0))
        if loss == "triplet_margin_loss":  # anchors, the next rows, and those after them
            return f(z, jnp.roll(z, 1, 0), jnp.roll(z, 2, 0), eps=0.0, **options)
        if loss in ("hinge_loss", "perceptron_loss"):
            return f(z, 2 * y - 1)
        if loss.startswith("multiclass_"):
            return f(z, y)
        target = y.astype(z.dtype) if z.ndim == y.ndim else jax.nn.one_hot(y, z.shape[-1])
        return f(z, target, **options)

    return call


# --- Value and gradient ---------------------------------------------------------------------------


def of_torch(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def value_and_gradient(logits: list, labels: list) -> tuple[float, np.ndarray]:
        z = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
        value = loss(z, torch.tensor(labels)).mean()
        value.backward()
        assert z.grad is not None
        return value.item(), z.grad.numpy()

    return value_and_gradient


def of_jax(loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def value_and_gradient(logits: list, labels: list) -> tuple[float, np.ndarray]:
        y = jnp.asarray(labels)
        value, gradient = jax.value_and_grad(lambda z: loss(z, y).mean())(jnp.asarray(logits))
        return float(value), np.asarray(gradient)

    return value_and_gradient


def rounded(x: Any, digits: int) -> Any:
    """Keep the leading digits: fewer bytes, and far more than the tests ask for."""
    return [rounded(v, digits) for v in x] if isinstance(x, list) else float(f"{x:.{digits}g}")


LIBRARIES = {  # how each of them is called, and differentiated
    "torch.nn.functional": (in_torch, of_torch),
    "monai.losses": (in_monai, of_torch),
    "smp.losses": (in_smp, of_torch),
    "kornia.losses": (in_kornia, of_torch),
    "keras.losses": (in_keras, of_jax),
    "optax.losses": (in_optax, of_jax),
}


def main() -> None:
    examples = inputs()
    recorded = []
    for library, loss, options, name in CALLS:
        called, differentiated = LIBRARIES[library]
        value_and_gradient = differentiated(called(loss, eval(f"dict({options})")))
        value, gradient = value_and_gradient(examples[name]["logits"], examples[name]["labels"])
        call = f"{library}.{loss}({options})"
        assert np.isfinite(gradient).all(), (call, name)
        case = {"call": call, "input": name}
        case |= {"value": rounded(value, 10), "gradient": rounded(gradient.tolist(), 7)}
        recorded.append(case)
    document = {
        "versions": {p: importlib.metadata.version(p).split("+")[0] for p in VERSIONS},
        "inputs": examples,
        "cases": recorded,
    }
    path = Path(__file__).with_name("parity.json")
    text = json.dumps(document, separators=(",", ":")).replace('{"call"', '\n{"call"')
    path.write_text(text + "\n")
    print(f"{len(recorded)} cases, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
