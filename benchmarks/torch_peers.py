"""What PyTorch and the libraries on it make of the same rows, eager and compiled.

The arrays are shared with JAX where their layout is PyTorch's own, and copied where it is not:
classes stand on axis 1 there. Labels in another form (±1, 64-bit ids) are made beforehand, because
eager code would pay for them in every run.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
import types
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from benchmarks import losses as of
from benchmarks.jax_peers import few
from benchmarks.measure import Result, Runner
from benchmarks.work import SCORES, Arrays

Functions = dict[str, Callable[[Any], Any]]
OF_CLASSES = ("logits", "others", "p", "q")


def of_torch() -> Functions:
    torch: Any = importlib.import_module("torch")
    f: Any = torch.nn.functional

    def bce(a: Any, **options: Any) -> Any:
        return f.binary_cross_entropy_with_logits(a.logits, a.labels, **options)

    def kl(p: Any, q: Any) -> Any:
        return f.kl_div(q, p, reduction="sum", log_target=True) / (p.numel() / p.shape[1])

    def of_pairs(cost: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Positives against negatives alone: eager code may have arrays of any length."""

        def loss(a: Any) -> Any:
            few(a)
            positive = a.labels > 0
            z = a.logits.float()
            return cost(z[positive][:, None] - z[~positive]).mean()

        return loss

    return {
        "roc_auc_loss (hinge)": of_pairs(lambda d: f.relu(of.MARGIN - d)),
        "roc_auc_loss (squared_hinge)": of_pairs(lambda d: f.relu(of.MARGIN - d).square()),
        "roc_auc_loss (square)": of_pairs(lambda d: (of.MARGIN - d).square()),
        "roc_auc_loss (exponential)": of_pairs(lambda d: torch.exp(-d)),
        "roc_auc_loss (logistic)": of_pairs(lambda d: f.softplus(-d)),
        "sigmoid_cross_entropy": bce,
        "weighted_sigmoid_cross_entropy": lambda a: bce(
            a, pos_weight=torch.tensor(of.POSITIVE_WEIGHT, device=a.logits.device)
        ),
        "brier_loss": lambda a: f.mse_loss(torch.sigmoid(a.logits), a.labels),
        "hinge_loss": lambda a: f.relu(1 - a.signs * a.logits).mean(),
        "squared_hinge_loss": lambda a: f.relu(1 - a.signs * a.logits).square().mean(),
        "perceptron_loss": lambda a: f.relu(-a.signs * a.logits).mean(),
        "exponential_loss": lambda a: torch.exp(-a.signs * a.logits).mean(),
        "softmax_cross_entropy": lambda a: f.cross_entropy(a.logits, a.ids),
        "weighted_softmax_cross_entropy": lambda a: f.cross_entropy(
            a.logits, a.ids, weight=a.class_weights.to(a.logits.dtype), reduction="none"
        ).mean(),
        "weston_watkins_loss": lambda a: _multi_margin(f.multi_margin_loss, a),
        "kl_divergence": lambda a: kl(f.log_softmax(a.logits, 1), f.log_softmax(a.others, 1)),
        "kl_divergence_from_probabilities": lambda a: kl(a.p.log(), a.q.log()),
        "triplet_loss": lambda a: f.triplet_margin_loss(
            a.anchors, a.positives, a.negatives, margin=of.MARGIN
        ),
    }


def _multi_margin(loss: Callable[..., Any], a: Any) -> Any:
    """PyTorch takes rows and divides by the number of classes."""
    classes = a.logits.shape[1]
    rows = a.logits.movedim(1, -1).reshape(-1, classes)
    return loss(rows, a.ids.reshape(-1)) * classes


def of_torchvision() -> Functions:
    ops: Any = importlib.import_module("torchvision.ops")
    return {
        "sigmoid_focal_loss": lambda a: ops.sigmoid_focal_loss(
            a.logits, a.labels, alpha=of.ALPHA, gamma=of.GAMMA, reduction="mean"
        )
    }


def of_monai() -> Functions:
    monai: Any = importlib.import_module("monai.losses")
    exact: dict[str, Any] = {"batch": True, "smooth_nr": 0.0, "smooth_dr": 0.0}
    sides = {"alpha": of.FP_WEIGHT, "beta": of.FN_WEIGHT}

    def binary(loss: str, **options: Any) -> Callable[[Any], Any]:
        function = getattr(monai, loss)(**options)
        return lambda a: function(a.logits[:, None], a.labels[:, None])

    def classes(loss: str, factor: int = 0, **options: Any) -> Callable[[Any], Any]:
        function = getattr(monai, loss)(to_onehot_y=True, **options)
        return lambda a: function(a.logits, a.ids[:, None]) * (a.logits.shape[1] if factor else 1)

    soft, hard = exact | {"sigmoid": True}, exact | {"softmax": True}
    return {
        "sigmoid_focal_loss": binary("FocalLoss", gamma=of.GAMMA, alpha=of.ALPHA),
        "dice_loss": binary("DiceLoss", **soft),
        "jaccard_loss": binary("DiceLoss", jaccard=True, **soft),
        "squared_dice_loss": binary("DiceLoss", squared_pred=True, **soft),
        "tversky_loss": binary("TverskyLoss", **sides, **soft),
        "mcc_loss": binary("MCCLoss", sigmoid=True, batch=True),
        # The mean over classes, too, of a loss that only one of them has.
        "softmax_focal_loss": classes("FocalLoss", 1, gamma=of.GAMMA, use_softmax=True),
        "dice_loss (softmax)": classes("DiceLoss", **hard),
        "jaccard_loss (softmax)": classes("DiceLoss", jaccard=True, **hard),
        "squared_dice_loss (softmax)": classes("DiceLoss", squared_pred=True, **hard),
        "tversky_loss (softmax)": classes("TverskyLoss", **sides, **hard),
        "generalized_dice_loss": classes("GeneralizedDiceLoss", **hard),
    }


def of_smp() -> Functions:
    smp = _smp()
    sides = {"alpha": of.FP_WEIGHT, "beta": of.FN_WEIGHT}

    def binary(loss: str, **options: Any) -> Callable[[Any], Any]:
        function = getattr(smp, loss)("binary", **options)
        return lambda a: function(a.logits[:, None], a.labels[:, None])

    def classes(loss: str, **options: Any) -> Callable[[Any], Any]:
        function = getattr(smp, loss)("multiclass", **options)
        return lambda a: function(a.logits, a.ids)

    bce, ce, mcc = smp.SoftBCEWithLogitsLoss(), smp.SoftCrossEntropyLoss, smp.MCCLoss(eps=0.0)
    ce = ce(smooth_factor=0.0)
    gamma = of.FOCAL_TVERSKY_GAMMA
    return {
        "sigmoid_cross_entropy": lambda a: bce(a.logits, a.labels),
        "softmax_cross_entropy": lambda a: ce(a.logits, a.ids),
        "sigmoid_focal_loss": binary("FocalLoss", gamma=of.GAMMA, alpha=of.ALPHA),
        "dice_loss": binary("DiceLoss"),
        "jaccard_loss": binary("JaccardLoss"),
        "tversky_loss": binary("TverskyLoss", **sides),
        "focal_tversky_loss": binary("TverskyLoss", gamma=gamma, **sides),
        "mcc_loss": lambda a: mcc(a.logits.sigmoid(), a.labels),
        "lovasz_hinge_loss": binary("LovaszLoss"),
        "dice_loss (softmax)": classes("DiceLoss"),
        "jaccard_loss (softmax)": classes("JaccardLoss"),
        "tversky_loss (softmax)": classes("TverskyLoss", **sides),
        "lovasz_softmax_loss": classes("LovaszLoss"),
    }


def _smp() -> Any:
    """The losses alone: on its way to them the package imports every encoder it has."""
    name = "segmentation_models_pytorch"
    if name not in sys.modules:
        spec = importlib.util.find_spec(name)
        package = types.ModuleType(name)
        package.__spec__ = spec
        package.__path__ = list((spec and spec.submodule_search_locations) or [])
        sys.modules[name] = package
    return importlib.import_module(f"{name}.losses")


def forget() -> None:
    """Drop what was compiled, and with it the arrays that it holds."""
    if "torch" in sys.modules:
        sys.modules["torch"].compiler.reset()


# --- Runs -----------------------------------------------------------------------------------------


def usable(device: Any) -> str | None:
    """Why PyTorch cannot run where JAX does; None if it can. Gives both the same threads."""
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(cores())
    if device.platform == "cpu" or (device.platform == "gpu" and torch.cuda.is_available()):
        return None
    return f"this PyTorch has no {device.platform}"


def cores() -> int:
    """The cores that this process may use."""
    can_ask = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1


def tensors(arrays: Arrays, kind: str) -> SimpleNamespace:
    """The arrays as PyTorch wants them."""
    torch: Any = importlib.import_module("torch")
    found = {name: torch.from_dlpack(x) for name, x in arrays.items()}
    if kind in ("softmax", "divergence", "probabilities"):
        for name in OF_CLASSES:
            if name in found:
                found[name] = found[name].movedim(-1, 1).contiguous()
    if "ids" in found:
        found["ids"] = found["ids"].long()
    if kind in SCORES:
        found["signs"] = 2 * found["labels"] - 1
    return SimpleNamespace(**found)


def runner(
    name: str,
    function: Callable[[Any], Any],
    a: SimpleNamespace,
    kind: str,
    first: str,
    *,
    forward: bool,
) -> Runner:
    """A runner of `function(a)`, or of it and its gradient; compiled if `name` says so."""
    torch: Any = importlib.import_module("torch")
    compile_s = 0.0
    leaf = getattr(a, first).detach().requires_grad_(not forward)
    own = SimpleNamespace(**{**vars(a), first: leaf})
    cuda = leaf.is_cuda
    compiled = name == "torch.compile"
    if compiled:
        # Functions that one line makes share what is compiled; beyond a limit they would be eager.
        torch._dynamo.config.recompile_limit = 1_000
        function = torch.compile(function, dynamic=False)

    def run() -> Any:
        value = function(own)
        gradient = None if forward else torch.autograd.grad(value, leaf)[0]
        if cuda:
            torch.cuda.synchronize()
        return value, gradient

    if compiled:
        start = time.perf_counter()
        run()
        compile_s = time.perf_counter() - start

    def result() -> Result:
        value, gradient = run()
        value = value.item()
        if gradient is None:
            return value, None
        if kind in ("softmax", "divergence", "probabilities"):
            gradient = gradient.movedim(1, -1)
        return value, gradient.float().cpu().numpy()

    return Runner(name, run, result, compile_s)
