"""Find out what is wrong with a loss, or with a batch of logits and labels: the loss doctor.

* `diagnose.loss` probes any loss, yours, optax's or ours, on batches of its own.
* `diagnose.run` probes a loss on a batch of yours.
* `diagnose.batch` looks at logits and labels alone, and says what to change first.
* `diagnose.cost` says how many bytes a loss and its gradient move on an accelerator, which need
  not be here.

The first three return a `diagnose.Report`: print it. In a shell, or in CI, where a defect makes it
exit with 1::

    python -m diffmetrics.diagnose package.module:function [--json] [--kind binary]
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffmetrics.diagnose import _batch, _cost, _inference, _inputs, _names
from diffmetrics.diagnose._cost import Cost as Cost
from diffmetrics.diagnose._forms import KINDS as KINDS, OWN, Kind as Kind, Loss, name_of
from diffmetrics.diagnose._probes.batch_inputs import answerable
from diffmetrics.diagnose._probes.finite import hopeless
from diffmetrics.diagnose._programs import quiet
from diffmetrics.diagnose._registry import PROBES as PROBES, QUICK as QUICK, examined
from diffmetrics.diagnose._report import Finding as Finding, Report as Report
from diffmetrics.diagnose._subject import OwnBatch

# These compile programs of their own; all others, those in `QUICK`, share one.
SLOW = tuple({name: None for kind in KINDS for name in PROBES[kind] if name not in QUICK[kind]})
# What calling the loss showed, and what was asked by `parts=`, is told in any case.
ALWAYS = ("inputs", "parts")


def loss(
    loss: Loss,
    *,
    kind: Kind | None = None,
    probes: Sequence[str] | None = None,
    parts: Mapping[str, Loss] | None = None,
) -> Report:
    r"""Check a loss: what it does to predictions, and what is wrong with it.

    Use it before a training run, on a loss that you wrote, took from elsewhere, or do not trust.
    It says nothing of your data or model: `diagnose.run` and `diagnose.batch` do.

    The loss is called on batches of 16 to 64 made-up examples, compiled once for almost all probes.
    It may reduce or not, return ``(loss, auxiliary)``, take labels first, or take probabilities;
    the first line of the report says how it was understood. If it needs keywords, bind them with
    `functools.partial`. These are the kinds:

    * binary, multilabel: ``f(logits [...], labels [...])``; multiclass: ``f(logits [B, C], ids [B]
      or one-hot [B, C])``.
    * pair: ``f(a [B, D], b [B, D], same [B])``; divergence: ``f(p [B, D], q [B, D])``;
      embedding: ``f(embeddings [B, D], identities [B])``; triplet: ``f(anchors, positives,
      negatives)``.
    * mean_scale: ``f(mean, scale, target)``, ``f((mean, scale), target)``, or of raw outputs
      ``f(outputs [B, 2], target)``; regression: ``f(predictions [B], targets [B])``; counts:
      ``f(log_rates [B], counts [B])``, or of rates.

    A classification or a regression may have a third argument. If it is named mask, valid, where or
    padding, it says which elements of sequences ``[B, T]`` are real; if weight or weights, what
    each of them weighs. The probe `padding` tests what it does. Weights of classes are an option:
    bind them.

    Findings are defects or notes. A note is a property that you should know: a loss of counts is
    not proper and does not decompose, and is healthy all the same.

    Args:
      loss: the callable.
      kind: one of `diagnose.KINDS`; by default inferred from the signature and from dry calls.
      probes: names of those to run; by default all of the kind (`diagnose.PROBES`), in some
        seconds. Those in `diagnose.QUICK` share one compiled program, and take about one second.
      parts: losses that `loss` claims to combine, by name: reports by which weight each of them
        enters its gradient.

    Returns:
      A `diagnose.Report`; print it.

    Raises:
      TypeError: if the loss is not callable, lacks an option, or cannot be called on any batch;
        the message lists what was tried.
      ValueError: for an unknown kind or probe.

    Example:
      >>> import diffmetrics as dm, jax, jax.numpy as jnp
      >>> def mine(logits, labels):                     # "1000 times heavier on ships"
      ...     entropy = dm.sigmoid_cross_entropy(logits, labels)
      ...     return jnp.where(labels == 0, 1000 * entropy, entropy).mean()
      >>> report = dm.diagnose.loss(mine, probes=["weights", "direction"])
      >>> print(report)                                 # doctest: +NORMALIZE_WHITESPACE
      mine: broken: the class weight is inverted
      binary, loss(logits, labels). 1 defect, no notes.
      DEFECT  weights       the class weight is inverted: a negative weighs 1000 times as
                            much as a positive, and if positives are rare nothing is ever
                            predicted
                            gradient at p = 1/2: 0.00781 of a positive, 7.81 of a negative,
                            ratio 0.001
                            -> put the weight on label 1:
                               weighted_sigmoid_cross_entropy(positive_weight=...)
      ok      direction     raising the right side's logit lowers the loss, for every class
      >>> report.healthy, report.findings[0].probe
      (False, 'weights')
    """
    if isinstance(probes, str):
        raise TypeError(f"probes must be a list of names, got the string {probes!r}")
    subject = _inference.subject(loss, kind)
    subject.parts = parts or {}
    form, names = subject.form, tuple(PROBES[subject.form.kind])
    unknown = [name for name in probes or () if name not in names]
    if unknown:
        raise ValueError(
            f"probes of {form.kind} losses are {', '.join(names)}; got {', '.join(unknown)}"
            + _names.meant(unknown[0], names)
        )
    with np.errstate(all="ignore"), quiet():
        if hopeless(subject):
            names = ("inputs", "finite")
        elif probes is not None:
            names = (*ALWAYS, *probes)
        results = examined(form.kind, subject, names)
    return Report(name_of(loss), f"{form.kind}, {form.words}", results)


def run(loss: Loss, predictions: Any, labels: Any) -> Report:
    """Check a loss on a batch of yours, in your shapes and with your numbers.

    Use it on the first batch of a training run that goes wrong. It tells

    * whether a shape was broadcast; whether labels are a mask of 0 and 255, or signs; whether
      logits and probabilities, or predictions and labels, stand in each other's place;
    * whether most predictions are on the wrong side, and whether value and gradient are finite;
    * whether it matters which label belongs to which prediction; whether wrong predictions get a
      gradient, and to which side; how much of it the positives hold; what a mean over halves would
      change;
    * whether ids name other classes; whether marks of what is to be left out are learnt; whether
      masks lie transposed or beside another image; whether a class weight is on the frequent class;
    * how many bytes it moves.

    Why a loss behaves so, `diagnose.loss` finds out; it needs no data.

    Args:
      loss: ``f(predictions, labels)`` of any reduction, or labels first if its arguments are named
        so.
      predictions: what the loss takes, an array or a tuple of them, floating.
      labels: what the loss takes beside them.

    Returns:
      A `diagnose.Report`; print it.

    Raises:
      TypeError: if predictions are no floating-point numbers, or labels no numbers.
      ValueError: if one of them is empty.
      Exception: whatever the loss raises on this batch.

    Example:
      >>> import diffmetrics as dm, jax.numpy as jnp, optax
      >>> logits, labels = jnp.array([2.0, -1.0, 0.5, -3.0]), jnp.array([[1], [0], [0], [1]])
      >>> report = dm.diagnose.run(optax.sigmoid_binary_cross_entropy, logits, labels)
      >>> print(report.findings[0].cause)
      it is blind to its labels: only their share counts, not whose they are
      >>> print(report.findings[1].cause)               # doctest: +NORMALIZE_WHITESPACE
      predictions (4,) were broadcast against labels (4, 1) to (4, 4): every prediction
      meets every label
    """
    labels = _inputs.numbers("labels", labels)
    predictions = _inputs.numbers_to_learn(predictions, labels)
    form = _inference.own_form(loss, predictions, labels)
    with np.errstate(all="ignore"), quiet():
        subject = OwnBatch(loss, form)
        names = PROBES[OWN] if subject.seen.finite else ("jit", "shapes", "inputs", "finite")
        results = examined(OWN, subject, names)
    return Report(name_of(loss), form.words, results)


def batch(logits: Any, labels: Any, *, beta: float = 1.0) -> Report:
    """Check logits and labels, without a loss: what to change first.

    Use it on validation data of a trained model. It tells

    * whether logits and labels are what they are taken for, the prevalence, and saturated logits;
    * whether 1/2 is a sensible threshold, and what the best F-beta and its threshold are;
    * calibration, and a shift of the class frequencies;
    * whether masks ``[..., H, W]`` lie transposed or beside another image;
    * whether the model is worse than a constant, or too good to be true.

    A threshold tuned on the data it is judged by flatters: tune it elsewhere.

    Args:
      logits: real scores ``[...]``, or ``[..., C]`` of classes that compete.
      labels: 0/1 of the same shape, or integer class ids ``[...]``.
      beta: of the F-beta, for 0/1 labels.

    Returns:
      A `diagnose.Report`; print it. A batch without positives, with floating labels outside of [0,
      1], or with logits that are all the same or not finite, is a defect. So is a model that
      predicts nothing at 1/2 although it has learnt. Where logits or labels are not what they are
      taken for, the report stops there: put it right, and ask again.

    Raises:
      TypeError: if one of them holds no numbers.
      ValueError: if the shapes do not fit, naming both, one of them is empty, or `beta` is
        negative.

    Example:
      >>> import diffmetrics as dm, numpy as np
      >>> rng = np.random.default_rng(0)
      >>> labels = rng.random(20_000) < 0.01
      >>> logits = rng.normal(size=20_000) + 3.0 * labels - 6.0
      >>> report = dm.diagnose.batch(logits, labels)
      >>> print(report.findings[0].cause)               # doctest: +NORMALIZE_WHITESPACE
      at 1/2 it predicts next to nothing, although it has learnt: the threshold is wrong, not
      the model
    """
    subject = _batch.subject(logits, labels, beta)
    with np.errstate(all="ignore"):
        results = examined(subject.kind, subject, answerable(subject))
    return Report("batch", subject.words, results)


def cost(loss: Loss, logits: Any, labels: Any, *, target: str | None = None) -> Cost:
    """What a loss and its gradient cost: bytes, memory and kernels, and whether ours costs less.

    Use it before a training run on an accelerator, where a loss takes as long as its bytes take
    between memory and chip. Value and gradient are compiled and read, never run, for the device
    that is here or for one that need not be. How bytes are counted, and what the figures do not
    know, is in docs/speed.md.

    The least is one reading of logits and labels and one writing of the gradient. A loss that needs
    a sum over a whole set before it has a slope, like Dice, reads twice. If a loss of this library
    has the same value and gradient on a small random batch, up to a factor as between a mean and a
    sum, and moves less, the result tells its cost, too.

    Args:
      loss: ``f(logits, labels)`` of any reduction, or labels first if its arguments are named so.
      logits: what the loss takes, an array or a tree of them, or of `jax.ShapeDtypeStruct`.
      labels: the same.
      target: ``"h100"`` (NVIDIA), ``"v5e"`` or ``"v6e"`` (TPU), or ``"cpu"``; by default the device
        on which JAX computes here.

    Returns:
      A `diagnose.Cost`; print it.

    Raises:
      TypeError: if logits or labels are no arrays, or logits no floating-point numbers.
      ValueError: if they are empty or too many; for an unknown target, or one whose compiler is
        not installed, and what to install.
      Exception: whatever the loss raises when it is traced, or the compiler.

    Example:
      >>> import diffmetrics as dm, jax, optax
      >>> focal = optax.sigmoid_focal_loss
      >>> masks = jax.ShapeDtypeStruct((16, 512, 512), "float32")  # shapes, not arrays
      >>> found = dm.diagnose.cost(focal, masks, masks)
      >>> found.least_bytes // 2**20, found.ratio > 2
      (48, True)
      >>> print(found.ours.loss)
      diffmetrics.sigmoid_focal_loss
      >>> print(dm.diagnose.cost(focal, masks, masks, target="h100"))  # doctest: +SKIP
      sigmoid_focal_loss on NVIDIA H100: moves 10.7 x the least bytes, 128 MiB of temporary
      arrays, 7 kernels, compiled in 0.4 s.
      The least: one reading of predictions and labels, one writing of the gradient, 48.0 MiB.
      diffmetrics.sigmoid_focal_loss, of the same value and gradient at labels of 0 and 1:
      1.00 x.
    """
    call = functools.partial(_inference.order(loss).call, loss)
    _cost.check("logits", logits, differentiable=True)
    _cost.check("labels", labels)
    place = _cost.place(target)  # which a GPU's compiler wants before JAX's first step
    return _cost.cost(loss, call, logits, labels, place)
