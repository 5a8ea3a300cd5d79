# pyright: reportMissingImports=false
"""Record what other libraries compute, as `parity.json` beside this file.

    pip install monai segmentation-models-pytorch kornia keras optax torch
    python tests/recorded/make.py

Run it again only to add a case or to follow a new release; the tests need none of these libraries.
Logits and gradients are stored with the classes last.  Each gradient is that of the value with
respect to the logits; a loss that wants probabilities is given the sigmoid or the softmax of them.
"""

import os

os.environ["KERAS_BACKEND"] = "jax"

import importlib.metadata
import importlib.util
import json
import sys
import types
from collections.abc import Callable, Iterator
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
Case = tuple[str, str, dict[str, Any], str, Callable[[Any, Any], Any]]


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


def cases() -> Iterator[Case]:
    """Every case: library, loss, options, input, and a function of (logits, labels)."""
    sigmoid, softmax = {"sigmoid": True}, {"softmax": True, "to_onehot_y": True}
    for loss, options, name in [
        ("DiceLoss", sigmoid, "binary"),
        ("DiceLoss", sigmoid | {"smooth_nr": 1.0, "smooth_dr": 1.0}, "binary"),
        ("DiceLoss", sigmoid | {"smooth_nr": 0.0, "smooth_dr": 1.0}, "binary"),
        ("DiceLoss", sigmoid | {"batch": True}, "binary"),
        ("DiceLoss", sigmoid | {"squared_pred": True}, "binary"),
        ("DiceLoss", sigmoid | {"jaccard": True}, "binary"),
        ("DiceLoss", sigmoid | {"jaccard": True, "smooth_nr": 1.0, "smooth_dr": 1.0}, "binary"),
        ("DiceLoss", softmax, "multiclass"),
        ("DiceLoss", softmax | {"batch": True}, "multiclass"),
        ("DiceLoss", softmax | {"include_background": False}, "multiclass"),
        ("DiceLoss", softmax | {"weight": [1.0, 2.0, 3.0, 4.0]}, "multiclass"),
        ("DiceLoss", softmax | {"ignore_index": 255}, "void"),
        ("TverskyLoss", sigmoid | {"alpha": 0.3, "beta": 0.7}, "binary"),
        ("TverskyLoss", softmax | {"alpha": 0.3, "beta": 0.7}, "multiclass"),
        ("GeneralizedDiceLoss", softmax | {"smooth_nr": 0.0, "smooth_dr": 0.0}, "complete"),
        (
            "GeneralizedDiceLoss",
            softmax | {"smooth_nr": 0.0, "smooth_dr": 0.0, "batch": True},
            "complete",
        ),
        ("MCCLoss", sigmoid, "binary"),
        ("MCCLoss", sigmoid | {"batch": True}, "binary"),
        ("DiceLoss", sigmoid, "eight"),
        ("DiceLoss", sigmoid | {"batch": True}, "eight"),
        ("DiceLoss", sigmoid | {"squared_pred": True}, "eight"),
        ("DiceLoss", sigmoid | {"smooth_nr": 1.0, "smooth_dr": 1.0}, "eight"),
    ]:
        yield "monai.losses", loss, options, name, of_torch(in_monai(loss, options))

    for loss, options, name in [
        ("DiceLoss", {"mode": "binary"}, "binary"),
        ("DiceLoss", {"mode": "binary", "smooth": 1.0}, "binary"),
        ("DiceLoss", {"mode": "multiclass"}, "multiclass"),
        ("DiceLoss", {"mode": "multiclass"}, "absent"),
        ("DiceLoss", {"mode": "multiclass", "ignore_index": 255}, "void"),
        (
            "DiceLoss",
            {"mode": "multiclass", "class_weights": [1.0, 2.0, 3.0, 4.0]},
            "multiclass",
        ),
        ("JaccardLoss", {"mode": "binary", "smooth": 1.0}, "binary"),
        ("JaccardLoss", {"mode": "multiclass"}, "multiclass"),
        ("TverskyLoss", {"mode": "binary", "alpha": 0.3, "beta": 0.7, "gamma": 0.75}, "binary"),
        (
            "TverskyLoss",
            {"mode": "multiclass", "alpha": 0.3, "beta": 0.7, "gamma": 0.75},
            "multiclass",
        ),
        ("MCCLoss", {}, "binary"),
        ("LovaszLoss", {"mode": "binary"}, "binary"),
        ("LovaszLoss", {"mode": "binary", "per_image": True}, "binary"),
        ("LovaszLoss", {"mode": "multiclass"}, "multiclass"),
        ("LovaszLoss", {"mode": "multiclass", "per_image": True}, "multiclass"),
        ("LovaszLoss", {"mode": "multiclass"}, "absent"),
        ("DiceLoss", {"mode": "binary"}, "eight"),
        ("DiceLoss", {"mode": "binary", "smooth": 1.0}, "eight"),
    ]:
        yield "smp.losses", loss, options, name, of_torch(in_smp(loss, options))

    for loss, options, name in [
        ("dice_loss", {"average": "micro"}, "multiclass"),
        ("dice_loss", {"average": "macro"}, "multiclass"),
        ("dice_loss", {"average": "macro", "ignore_index": 255}, "void"),
        ("tversky_loss", {"alpha": 0.3, "beta": 0.7}, "multiclass"),
        ("dice_loss", {"average": "micro"}, "eight"),
        ("dice_loss", {"average": "macro"}, "eight"),
    ]:
        yield "kornia.losses", loss, options, name, of_torch(in_kornia(loss, options))

    for loss, options, name in [
        ("dice", {}, "binary"),
        ("dice", {"axis": (1, 2)}, "binary"),
        ("dice", {}, "multiclass"),
        ("tversky", {"alpha": 0.3, "beta": 0.7}, "binary"),
        ("tversky", {"alpha": 0.3, "beta": 0.7, "axis": (1, 2)}, "multiclass"),
        ("dice", {}, "eight"),
    ]:
        yield "keras.losses", loss, options, name, of_jax(in_keras(loss, options))

    for loss, options, name in [
        ("dice_loss", {}, "multiclass"),
        ("dice_loss", {"smooth": 0.0}, "multiclass"),
        ("dice_loss", {"alpha": 0.3, "beta": 0.7}, "multiclass"),
        ("dice_loss", {"axis": (0, 1, 2)}, "multiclass"),
        ("dice_loss", {"ignore_background": True}, "multiclass"),
        ("binary_dice_loss", {}, "binary"),
        ("binary_dice_loss", {"smooth": 0.0}, "binary"),
        ("binary_dice_loss", {}, "eight"),
    ]:
        yield "optax.losses", loss, options, name, of_jax(in_optax(loss, options))

    yield from cases_without_counts()


def cases_without_counts() -> Iterator[Case]:
    """Losses with one value per element or example, whose mean is recorded."""
    weight = [1.0, 2.0, 3.0, 4.0, 5.0]
    for loss, options, name in [
        ("binary_cross_entropy_with_logits", {}, "elements"),
        ("binary_cross_entropy_with_logits", {"pos_weight": 3.0}, "elements"),
        ("soft_margin_loss", {}, "elements"),
        ("cross_entropy", {}, "rows"),
        ("cross_entropy", {"weight": weight}, "rows"),
        ("cross_entropy", {"label_smoothing": 0.1}, "rows"),
        ("cross_entropy", {"ignore_index": 3}, "rows"),
        ("multi_margin_loss", {}, "rows"),
        ("kl_div", {"log_target": True}, "rows"),
        ("triplet_margin_loss", {"margin": 3.0}, "rows"),
    ]:
        call = of_torch(in_torch(loss, options))
        yield "torch.nn.functional", loss, options, name, call

    for loss, options, name in [
        ("FocalLoss", {"gamma": 2.0}, "elements"),
        ("FocalLoss", {"gamma": 0.5, "alpha": 0.25}, "elements"),
        ("FocalLoss", {"gamma": 2.0, "use_softmax": True, "to_onehot_y": True}, "rows"),
    ]:
        yield "monai.losses", loss, options, name, of_torch(in_monai(loss, options))
    for loss, options, name in [
        ("FocalLoss", {"mode": "binary", "alpha": 0.25, "gamma": 2.0}, "elements"),
    ]:
        yield "smp.losses", loss, options, name, of_torch(in_smp(loss, options))
    for loss, options, name in [
        ("focal_loss", {"alpha": 0.25, "gamma": 2.0}, "rows"),
    ]:
        yield "kornia.losses", loss, options, name, of_torch(in_kornia(loss, options))

    for loss, options, name in [
        ("binary_crossentropy", {"from_logits": True}, "elements"),
        (
            "binary_focal_crossentropy",
            {"from_logits": True, "gamma": 2.0, "alpha": 0.25, "apply_class_balancing": True},
            "elements",
        ),
        ("hinge", {}, "elements"),
        ("squared_hinge", {}, "elements"),
        ("categorical_hinge", {}, "rows"),
    ]:
        yield "keras.losses", loss, options, name, of_jax(in_keras(loss, options))

    for loss, options, name in [
        ("sigmoid_binary_cross_entropy", {}, "elements"),
        ("sigmoid_focal_loss", {"alpha": 0.25, "gamma": 2.0}, "elements"),
        ("hinge_loss", {}, "elements"),
        ("perceptron_loss", {}, "elements"),
        ("softmax_cross_entropy", {}, "rows"),
        ("poly_loss_cross_entropy", {"epsilon": 2.0}, "rows"),
        ("multiclass_hinge_loss", {}, "rows"),
        ("kl_divergence_with_log_targets", {}, "rows"),
        ("triplet_margin_loss", {"margin": 3.0}, "rows"),
    ]:
        yield "optax.losses", loss, options, name, of_jax(in_optax(loss, options))


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


def main() -> None:
    examples = inputs()
    recorded = []
    for library, loss, options, name, value_and_gradient in cases():
        value, gradient = value_and_gradient(examples[name]["logits"], examples[name]["labels"])
        assert np.isfinite(gradient).all(), (library, loss, options, name)
        call = f"{library}.{loss}({', '.join(f'{k}={v!r}' for k, v in options.items())})"
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
