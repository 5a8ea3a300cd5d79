# pyright: reportMissingImports=false
"""Record what other libraries compute, as `parity.json` beside this file.

    pip install torch monai segmentation-models-pytorch kornia keras optax rax jax
    pip install scikit-learn torchmetrics
    python tests/recorded/make.py

(A torchvision that does not fit the torch beside it must go: torchmetrics would import it.)

Every line of the tables of `docs/coming_from/` is a case: their call and the input's name.  Run
this again only to add one or to follow a new release; the tests need none of these libraries.
Logits and gradients are stored with the classes last.  A loss is recorded with its gradient with
respect to the logits, a metric with its value alone, which may be an array or several.  What wants
probabilities is given the sigmoid or the softmax of the logits, what wants decisions `logits > 0`
or the class with the largest logit, and what wants one-hot labels gets those.
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
import kornia.metrics
import monai.losses
import monai.metrics
import numpy as np
import optax
import rax
import sklearn.calibration
import sklearn.metrics
import sklearn.utils.class_weight
import torch
import torchmetrics.functional as tmf
from torchmetrics.functional import classification, retrieval, segmentation

jax.config.update("jax_enable_x64", True)
keras.config.set_floatx("float64")

# The package imports every encoder it has on the way to its losses, which need none of them.
_package = types.ModuleType("segmentation_models_pytorch")
_spec = importlib.util.find_spec("segmentation_models_pytorch")
assert _spec is not None, "pip install segmentation-models-pytorch"
_package.__path__ = list(_spec.submodule_search_locations or [])
sys.modules["segmentation_models_pytorch"] = _package
smp: Any = importlib.import_module("segmentation_models_pytorch.losses")
smp_metrics: Any = importlib.import_module("segmentation_models_pytorch.metrics")

VERSIONS = ["torch", "monai", "segmentation-models-pytorch", "kornia", "keras", "optax", "jax"]
VERSIONS += ["scikit-learn", "torchmetrics", "rax"]
PAGES = sorted((Path(__file__).parents[2] / "docs/coming_from").glob("*.md"))
ROW = re.compile(r"^\| `(([\w.]+)\.(\w+)\((.*?)\)(\[[\d:]+\])?)` \| (\w+) \| `", re.MULTILINE)


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

    ids = rng.integers(0, 4, 30)
    hits = (rng.random((12, 5)) < 0.35).astype(int)  # in every row and column some, and not all
    hits[np.arange(12), np.arange(12) % 5], hits[np.arange(12), np.arange(1, 13) % 5] = 1, 0
    lists = (rng.random((4, 6)) < 0.35).astype(int)
    lists[:, :2] = [1, 0]
    lists[1, 4:] = lists[3, 3:] = -1  # shorter lists
    examples |= {
        "classes": ((draw(30, 4) + 2 * np.eye(4)[ids]).round(3), ids),
        "multilabel": ((draw(12, 5) + 3 * hits - 1.5).round(3), hits),
        "lists": (draw(4, 6), lists),
        "forecasts": (draw(16), draw(16)),
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
    if loss == "SoftBCEWithLogitsLoss":
        return lambda z, y: f(z, y.to(z.dtype))
    if options.get("mode") == "binary":
        return lambda z, y: f(channels(z, y), y.to(z.dtype))
    return lambda z, y: f(channels(z, y), y)


def in_kornia(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(kornia.losses, loss)

    def call(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if loss == "binary_focal_loss_with_logits":
            return f(z, y, **options)
        if z.ndim == y.ndim and loss != "lovasz_hinge_loss":
            # Two classes, whose softmax is the sigmoid, on one row of pixels.
            z, y = torch.stack([torch.zeros_like(z), z], 1)[:, :, None], y[:, None]
            return f(z, y, **options)
        return f(channels(z, y), y, **options)

    return call


def in_keras(loss: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(keras.losses, loss)

    def call(z: jax.Array, y: jax.Array) -> jax.Array:
        if loss == "categorical_generalized_cross_entropy":
            return f(y, jax.nn.softmax(z), **options)
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
        if loss.startswith("multiclass_") or loss.endswith("_integer_labels"):
            return f(z, y)
        target = y.astype(z.dtype) if z.ndim == y.ndim else jax.nn.one_hot(y, z.shape[-1])
        return f(z, target, **options)

    return call


def in_rax(function: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(rax, function)
    return lambda z, y: f(z, y if z.ndim == y.ndim else jax.nn.one_hot(y, z.shape[-1]), **options)


# --- How each library wants what its metrics judge ------------------------------------------------


def decided(z: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Decisions and labels, one channel for each class; both are 0 where nobody knows the label."""
    if z.ndim == y.ndim:
        return (z > 0).long()[:, None], y[:, None]
    classes, known = torch.arange(z.shape[-1]), (y < z.shape[-1])[..., None]
    one_hot = [(ids[..., None] == classes) & known for ids in (z.argmax(-1), y)]
    return one_hot[0].movedim(-1, 1).long(), one_hot[1].movedim(-1, 1).long()


def in_monai_metrics(metric: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(monai.metrics, metric)(**options)

    def call(z: torch.Tensor, y: torch.Tensor) -> Any:
        if metric in ("ROCAUCMetric", "AveragePrecisionMetric"):
            f(z, y)
            return f.aggregate()
        p, t = decided(z, y)
        if metric == "CalibrationErrorMetric":
            p = z.softmax(-1).movedim(-1, 1) if z.ndim > y.ndim else z.sigmoid()[:, None]
        f(p, t.bool() if metric == "MeanIoU" else t)
        found = f.aggregate()
        return found[0] if isinstance(found, list) else found

    return call


def in_smp_metrics(metric: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(smp_metrics, metric)

    def call(z: torch.Tensor, y: torch.Tensor) -> Any:
        if z.ndim == y.ndim:
            cells = smp_metrics.get_stats(z.sigmoid()[:, None], y[:, None], "binary", threshold=0.5)
        else:
            number = z.shape[-1]
            void = 255 if (y >= number).any() else None
            cells = smp_metrics.get_stats(z.argmax(-1), y, "multiclass", void, num_classes=number)
        return f(*cells, **options)

    return call


def in_kornia_metrics(metric: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    f = getattr(kornia.metrics, metric)
    return lambda z, y: f(z if metric == "accuracy" else z.argmax(-1), y, **options)


def in_torchmetrics(place: Any) -> Callable[[str, dict[str, Any]], Callable[[Any, Any], Any]]:
    def named(metric: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
        f = getattr(place, metric)

        def call(z: torch.Tensor, y: torch.Tensor) -> Any:
            if metric == "kl_divergence":  # of a row from the next one
                logs = z.log_softmax(-1)
                return f(logs.roll(1, 0), logs, **options)
            if place is segmentation:
                return f(z.argmax(-1), y, **options)
            if place is retrieval:  # whose scores must be positive
                return f(z.sigmoid(), y, **options)
            return f(z.movedim(-1, 1) if z.ndim > y.ndim else z, y, **options)

        return call

    return named


def in_keras_metrics(metric: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
    def call(z: jax.Array, y: jax.Array) -> Any:
        f = getattr(keras.metrics, metric)(**options)
        binary = z.ndim == y.ndim
        p = jax.nn.sigmoid(z) if binary else jax.nn.softmax(z)
        if "Hinge" in metric or options.get("from_logits"):
            p = z
        if metric in ("IoU", "MeanIoU"):
            p = z.argmax(-1)
        if not (binary or metric.startswith("Sparse") or metric in ("IoU", "MeanIoU")):
            y = jax.nn.one_hot(y, z.shape[-1])
        f.update_state(y, p)
        return f.result()

    return call


PROBABILITIES = {"log_loss", "brier_score_loss", "calibration_curve"}
PROBABILITIES |= {"d2_log_loss_score", "d2_brier_score"}
SCORES = {"roc_auc_score", "average_precision_score", "roc_curve", "precision_recall_curve"}
SCORES |= {"det_curve", "confusion_matrix_at_thresholds", "hinge_loss", "top_k_accuracy_score"}
SCORES |= {"label_ranking_average_precision_score", "label_ranking_loss"}
SCORES |= {"mean_pinball_loss", "d2_pinball_score"}


def in_sklearn(place: Any) -> Callable[[str, dict[str, Any]], Callable[[Any, Any], Any]]:
    def named(metric: str, options: dict[str, Any]) -> Callable[[Any, Any], Any]:
        f = getattr(place, metric)

        def call(z: np.ndarray, y: np.ndarray) -> Any:
            binary = z.ndim == y.ndim
            p = np.asarray(jax.nn.sigmoid(z) if binary else jax.nn.softmax(z))
            if metric == "compute_class_weight":
                return f(y=y, classes=np.arange(z.shape[-1]), **options)
            if metric in PROBABILITIES or "multi_class" in options:
                return f(y, p, **options)
            if metric == "average_precision_score" and not binary:
                return f(y, p, **options)
            if metric in SCORES:
                return f(y, z, **options)
            return f(y, z > 0 if binary else z.argmax(-1), **options)

        return call

    return named


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


def value_of(array: Callable[[list], Any]) -> Callable[[Callable[[Any, Any], Any]], Callable]:
    """Metrics have no gradient; `array` makes of lists what they want."""
    return lambda metric: lambda logits, labels: (metric(array(logits), array(labels)), None)


def in_doubles(x: list) -> torch.Tensor:
    found = torch.tensor(x)
    return found.double() if found.is_floating_point() else found


def rounded(x: Any, digits: int) -> Any:
    """Keep the leading digits: fewer bytes, and far more than the tests ask for."""
    if isinstance(x, list | tuple):
        return [rounded(v, digits) for v in x]
    x = np.asarray(x).tolist()
    return rounded(x, digits) if isinstance(x, list) else float(f"{x:.{digits}g}")


LIBRARIES = {  # how each of them is called, and differentiated if it is
    "torch.nn.functional": (in_torch, of_torch),
    "monai.losses": (in_monai, of_torch),
    "smp.losses": (in_smp, of_torch),
    "kornia.losses": (in_kornia, of_torch),
    "keras.losses": (in_keras, of_jax),
    "optax.losses": (in_optax, of_jax),
    "rax": (in_rax, of_jax),
    "monai.metrics": (in_monai_metrics, value_of(in_doubles)),
    "smp.metrics": (in_smp_metrics, value_of(in_doubles)),
    "kornia.metrics": (in_kornia_metrics, value_of(in_doubles)),
    "keras.metrics": (in_keras_metrics, value_of(jnp.asarray)),
    "sklearn.metrics": (in_sklearn(sklearn.metrics), value_of(np.asarray)),
    "sklearn.calibration": (in_sklearn(sklearn.calibration), value_of(np.asarray)),
    "sklearn.utils.class_weight": (in_sklearn(sklearn.utils.class_weight), value_of(np.asarray)),
    "tmf": (in_torchmetrics(tmf), value_of(in_doubles)),
    "tmf.classification": (in_torchmetrics(classification), value_of(in_doubles)),
    "tmf.segmentation": (in_torchmetrics(segmentation), value_of(in_doubles)),
    "tmf.retrieval": (in_torchmetrics(retrieval), value_of(in_doubles)),
}


def recorded(row: re.Match[str], examples: dict[str, dict[str, Any]]) -> dict[str, Any]:
    call, library, function, options, part, name = row.groups()
    logits, labels = examples[name]["logits"], examples[name]["labels"]
    known = {"z": np.asarray(logits), "y": np.asarray(labels)}  # such as in where=y >= 0
    called, differentiated = LIBRARIES[library]
    if function.endswith("_metric"):  # of rax
        differentiated = value_of(jnp.asarray)
    of = differentiated(called(function, eval(f"dict({options})", known)))
    value, gradient = of(logits, labels)
    value = eval(f"value{part or ''}", {"value": value})
    case = {"call": call, "input": name, "value": rounded(value, 10)}
    if gradient is not None:
        assert np.isfinite(gradient).all(), (call, name)
        case["gradient"] = rounded(gradient.tolist(), 7)
    return case


def main() -> None:
    examples = inputs()
    rows = [row for page in PAGES for row in ROW.finditer(page.read_text())]
    cases = [recorded(row, examples) for row in rows]
    assert len({(case["call"], case["input"]) for case in cases}) == len(cases)
    document = {
        "versions": {p: importlib.metadata.version(p).split("+")[0] for p in VERSIONS},
        "inputs": examples,
        "cases": cases,
    }
    path = Path(__file__).with_name("parity.json")
    text = json.dumps(document, separators=(",", ":")).replace('{"call"', '\n{"call"')
    path.write_text(text + "\n")
    print(f"{len(cases)} cases, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
