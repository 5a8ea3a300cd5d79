"""Which kind of loss is it? By its signature first, then by what a dry call does."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _dry, _forms
from diffmetrics.diagnose._forms import CLASSES, KINDS, WIDTH, Form, Loss, OwnForm, name_of
from diffmetrics.diagnose._padding import Mask, is_mask
from diffmetrics.diagnose._report import Finding, note
from diffmetrics.diagnose._subject import Subject

# The names under which the arguments of a loss go.
LABELS = {
    "label", "labels", "y", "y_true", "target", "targets", "truth", "true", "ground_truth", "mask",
    "masks", "ids", "expected", "count", "counts",
}  # fmt: skip
SCALES = ("scale", "std", "sigma", "stddev", "deviation")
LOGITS = {"logit", "logits", "probability", "probabilities"}
PREDICTED = {*LOGITS, "prediction", "predictions", "pred", "preds", "y_pred", "predicted", "scores"}
# What a word of a name says that is no array of a batch, but for the user to choose.
OPTIONS = {
    "alpha", "beta", "gamma", "delta", "eps", "epsilon", "temperature", "temp", "tau", "margin",
    "smooth", "smoothing", "key", "rng", "seed", "lam", "lambda", "power", "num", "threshold",
    "axis", "reduction", "quantile", "prior", "weight", "weights",
}  # fmt: skip
RATES = {"rate", "rates", "lam", "lambda", "intensity", "intensities"}


MASKABLE = (*_forms.CLASSIFYING, "regression", "counts")
ORDINAL = (
    "takes logits of 'more than class k' and ids of ordered classes, which is none of the kinds: "
    "wrap it as f(logits, levels) of kind multilabel, where levels are ids[:, None] > arange(K)"
)
TEACHER = (
    "is a cross-entropy with another model's logits, which is none of the kinds: wrap it as "
    "lambda logits, one_hot: {}(logits, jnp.log(one_hot + 1e-6)), or the other way round"
)


def subject(loss: Loss, kind: str | None) -> Subject:
    """The loss, compiled in the form that makes most sense of it.

    Raises:
      TypeError: if the loss is not callable, or cannot be called as any of the kinds.
      ValueError: for an unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    tried: list[tuple[Form, str]] = []
    for some in [kind] if kind else _candidates(loss):
        for form in _usual(loss, some):
            reason = _dry.refusal(loss, form)
            if reason is None:
                return _sensible(loss, form)
            tried.append((form, reason))
        for form in _usual(loss, some):
            if form.classifies and _dry.refusal(loss, form.squeezed()) is None:
                refuses = note("it takes probabilities, and refuses logits", _told(*tried[-1]))
                return Subject(loss, form.squeezed(), refuses)
    raise TypeError(_uncallable(loss, tried))


def _uncallable(loss: Loss, tried: list[tuple[Form, str]]) -> str:
    """What was tried; an error that is the same in every case is the loss's own."""
    if len({reason for _, reason in tried}) == 1:
        form, reason = tried[0]
        shapes = "in several shapes" if len(tried) > 1 else f"with {form.shape}"
        called = f"called as {form.words}, {shapes}; if it wants other arrays, wrap it"
        return f"{name_of(loss)} raises {reason}; {called}"
    return (
        f"{name_of(loss)} cannot be called with any of the usual batches; pass kind=, or "
        "wrap it as f(logits, labels). Tried:\n  " + "\n  ".join(_told(*each) for each in tried)
    )


def _told(form: Form, reason: str) -> str:
    return f"{form.words} with {form.shape}: {reason}"


def order(loss: Loss) -> Form:
    """In which order it takes predictions and labels, which no batch decides."""
    return Form(_forms.OWN, (), lead=_labels_lead(_required(loss)))


def own_form(loss: Loss, predictions: Any, labels: Any) -> Form:
    """The form of a batch of the user's."""
    z, y = jax.tree.map(_on_one_device, (predictions, labels))
    shape, lead = jax.tree.leaves(z)[0].shape, _labels_lead(_required(loss))
    return OwnForm(_forms.OWN, shape, labels="any", lead=lead, batch=(z, y))


def _on_one_device(x: Any) -> jax.Array:
    """An array whose numbers are asked for, and not how they are laid out over a mesh."""
    spread = isinstance(x, jax.Array) and len(x.devices()) > 1 and x.is_fully_addressable
    return jnp.asarray(jax.device_get(x) if spread else x)


def _sensible(loss: Loss, form: Form) -> Subject:
    """If logits make no sense, perhaps probabilities do, or the arguments in the other order."""
    first = Subject(loss, form)
    paired = form.kind in _forms.PAIRS
    makes_sense = _is_finite if paired else _learns
    if not (paired or form.classifies) or makes_sense(first):
        return first
    for other, noticed in _others(first):
        if _dry.refusal(loss, other) is None:
            second = Subject(loss, other, noticed)
            if makes_sense(second):
                return second
    return first


def _others(first: Subject) -> Iterator[tuple[Form, Finding]]:
    """Forms that may make more sense, and what to say if they do."""
    form = first.form
    if not form.classifies or (_senseless(first) and not _costs_perfect(first)):
        yield form.squeezed(), _wants_probabilities(first)
    named = {name.lower() for name in _arguments(first.loss)[0]} & LABELS
    if form.classifies and form.labels != "ids" and not named:
        yield (
            dataclasses.replace(form, lead=True),
            note(
                "labels come first, predictions second",
                "called as loss(logits, labels) its gradient makes no sense, the other way round "
                "it does",
                "name the arguments (y_true, y_pred), so that nobody mixes them up",
            ),
        )


def _costs_perfect(as_logits: Subject) -> bool:
    """Whether probabilities equal to the labels still cost much, as logits of that size do."""
    y = (as_logits.form.sides() + 1) / 2
    perfect, opposite = as_logits.measure(np.stack([y, 1 - y])).value
    return bool(np.isfinite(opposite) and 0 < 0.3 * opposite < perfect)


def _is_finite(subject: Subject) -> bool:
    return bool(subject.measure(subject.form.predictions()[None]).finite.all())


def _pulls(subject: Subject) -> tuple[bool, np.ndarray]:
    """Whether value and gradient of wrong predictions are finite, and the pull to the right."""
    side = subject.form.sides()
    measured = subject.measure(np.multiply.outer([-6.0, -2.0, -1.0, -0.3], side))
    return bool(measured.finite.all()), -measured.gradient * side


def _learns(subject: Subject) -> bool:
    """Every wrong prediction is pulled to the right side."""
    finite, pull = _pulls(subject)
    return bool(finite and (pull >= -1e-6 * np.abs(pull).max()).all() and (pull[1] > 0).all())


def _senseless(subject: Subject) -> bool:
    """Logits as such are the trouble: not finite, dead for both classes, or pulled astray."""
    finite, pull = _pulls(subject)
    astray = (pull < -1e-6 * np.abs(pull).max()).any()
    return bool(not finite or not pull[1].any() or astray)


def _wants_probabilities(as_logits: Subject) -> Finding:
    value, gradient = as_logits.measure(3.0 * as_logits.form.predictions()[None])
    dead = float((gradient[0] == 0).mean())
    what = f"it is {value[0]:.3g}"
    if np.isfinite(value[0]):
        what = f"{dead:.0%} of the gradient is 0" if dead else "it pulls some to the wrong side"
    squeeze = "sigmoid" if as_logits.form.decides else "softmax"
    return note(
        "it takes probabilities, not logits",
        f"of logits {what}; behind a {squeeze} it learns, and was probed so",
        "never give it logits; better: a loss that takes logits, which needs no clipping",
    )


def _required(loss: Loss) -> list[str]:
    """Names of the positional arguments without a default; two nameless ones if nobody knows.

    Raises:
      TypeError: if it is no loss, or needs keywords, which the caller has to bind.
    """
    if not callable(loss):
        raise TypeError(f"loss must be callable, got {type(loss).__name__}")
    if isinstance(loss, type):
        name = loss.__name__
        raise TypeError(f"{name} is a class, give an instance of it, {name}(), or a function")
    try:
        parameters = list(inspect.signature(loss).parameters.values())
    except (TypeError, ValueError):
        return ["", ""]
    free = [p for p in parameters if p.default is p.empty]
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional if p in free]
    keywords = [*_options(names), *(p.name for p in free if p.kind is p.KEYWORD_ONLY)]
    if keywords:
        raise TypeError(
            f"{name_of(loss)} needs the keywords {', '.join(keywords)}: bind them, "
            f"functools.partial(loss, {keywords[0]}=...), or pass them on the command line, "
            f"--set {keywords[0]}=..."
        )
    if len(names) == 1 and len(positional) > 1:
        names.append(positional[1].name)  # (predictions, targets=None), as optax has it
    if any(p.kind is p.VAR_POSITIONAL for p in free) and len(names) < 2:
        return ["", ""]
    return names


def _options(names: list[str]) -> list[str]:
    """Those of the arguments behind the first two that a batch has nothing for."""
    low = [name.lower() for name in names]
    second = set(low[1:2]) & (LABELS - {"y"})  # x, y and z may be three of a kind
    told = second or (set(low[:1]) & LABELS and set(low[1:2]) & PREDICTED)
    return [
        name
        for name, lower in zip(names[2:], low[2:], strict=True)
        if not is_mask(lower)
        and (set(lower.split("_")) & OPTIONS or (told and lower not in LABELS))
    ]


def _arguments(loss: Loss) -> tuple[list[str], str | None]:
    """Names of the arguments, and that of a mask behind them, if there is one."""
    names = _required(loss)
    masked = len(names) == 3 and is_mask(names[2])
    return (names[:2], names[2]) if masked else (names, None)


def _labels_lead(names: list[str]) -> bool:
    """Whether the names say that labels come before predictions."""
    return len(names) > 1 and names[0].lower() in LABELS and names[1].lower() not in LABELS


BINARY_SHAPES = ((64,), (16, 4), (4, 4, 4), (4, 4, 4, 1), (2, 2, 4, 4, 1))


def _usual(loss: Loss, kind: str) -> list[Form]:
    """The ways in which a loss of this kind may be called, the likely ones first."""
    names, mask = _arguments(loss)
    forms = _unmasked(names, kind)
    if mask is not None and kind in MASKABLE:
        forms = list(_with_masks(loss, forms, mask))
    if kind == "counts":
        return sorted(forms, key=lambda form: not _dry.counts_are_best(loss, form))
    return forms


def _unmasked(names: list[str], kind: str) -> list[Form]:
    make = functools.partial(Form, kind, lead=_labels_lead(names))
    two, scales = (2, 16, WIDTH), functools.partial(make, (2, 64), called="target", labels="real")
    match kind:
        case "binary":
            return [make(shape) for shape in BINARY_SHAPES]
        case "multilabel":
            return [make(BINARY_SHAPES[1])]
        case "multiclass":
            called = {"ids": "ids", "one-hot": "one_hot"}
            return [make((32, CLASSES), called=called[labels], labels=labels) for labels in called]
        case "pair":
            return [make(two, ("a", "b"), "same")]
        case "divergence":
            called = tuple(names) if all(names) and len(names) == 2 else ("logits_p", "logits_q")
            return [make(two, called, labels="none")]
        case "embedding":
            return [make((16, WIDTH), ("embeddings",), labels="ids")]
        case "triplet":
            return [make((3, 16, WIDTH), ("anchors", "positives", "negatives"), labels="none")]
        case "regression":
            return [make((64,), ("predictions",), labels="real")]
        case "counts":
            counts = functools.partial(make, (64,), called="counts", labels="counts")
            rates = [("log_rates", None), ("rates", jnp.exp), ("raw rates", _before_softplus)]
            if _words(names) & RATES and "log" not in _words(names):
                rates = rates[1:] + rates[:1]
            return [counts((name,), step=step) for name, step in rates]
    if len(names) == 3:
        raw = names[1].lower().startswith(("log", "raw"))
        return [scales(("mean", names[1] if raw else "scale"), raw_scale=raw)]
    raw = functools.partial(jnp.moveaxis, source=0, destination=-1)
    outputs = scales(("outputs [..., 2]",), step=raw, raw_scale=True)
    return [outputs, scales(("(mean, scale)",), step=tuple)]


def _before_softplus(log_rates: Any) -> Any:
    """Numbers of which the softplus are the rates."""
    rates = jnp.exp(log_rates)
    return rates + jnp.log(-jnp.expm1(-rates))


def _with_masks(loss: Loss, forms: list[Form], name: str) -> Iterator[Form]:
    """The same with a mask, of sequences if it can be."""
    dtypes = ("float32", "bool") if Mask(name).weighs else ("bool", "float32")
    for form in forms:
        for length in (None,) if form.decides else (4, None):
            for dtype in dtypes:
                yield _meant(loss, form, Mask(name, length, dtype))


def _meant(loss: Loss, form: Form, mask: Mask) -> Form:
    """The form whose mask means what the loss takes it for: where it is true there is padding."""
    given, other = (
        dataclasses.replace(form, mask=dataclasses.replace(mask, marks_padding=some))
        for some in (False, True)
    )
    return other if _dry.moves(loss, other) and not _dry.moves(loss, given) else given


def _words(names: list[str]) -> set[str]:
    """Those of the first argument's name."""
    return set(names[0].lower().split("_")) if names else set()


def _kind_of_names(names: list[str]) -> str | None:
    """What the arguments' names and number say of the kind, if anything."""
    low = [n.lower() for n in names]
    if len(low) == 3:
        if any(n.startswith("anchor") for n in low):
            return "triplet"
        if any(word in n for n in low for word in SCALES):
            return "mean_scale"
        if not {low[0], low[2]} & LABELS:
            return "pair"
    if len(low) == 2:
        if _words(low) & RATES or low[1] in ("count", "counts"):
            return "counts"
        if low[0].startswith("embedding"):
            return "embedding"
        if low[0][-2:] == "_p" or set(low) == {"p", "q"}:
            return "divergence"
        if low[0] in ("outputs", "raw", "parameters") and "label" not in low[1]:
            return "mean_scale"
    return None


def _candidates(loss: Loss) -> Iterator[str]:
    """Kinds that the loss may be of, by its signature and by what it accepts and ignores."""
    names, mask = _arguments(loss)
    named = _kind_of_names(names)
    if named:
        yield named
        return
    if len(names) == 3 and _follows(loss, "mean_scale"):
        yield "mean_scale"
        return
    if len(names) != 2:
        raise TypeError(
            f"{name_of(loss)} takes {len(names)} positional arguments ({', '.join(names)}); "
            "a loss takes predictions and labels, or a pair and whether it is the same: "
            "wrap it in a function of those"
        )
    yield from (kind for kind in ("mean_scale", "regression") if _follows(loss, kind))
    if not _words(names) & LOGITS and _dry.counts_are_best(loss, _usual(loss, "counts")[0]):
        relative = _dry.mirrors(loss, _usual(loss, "regression")[0])
        yield "regression" if relative else "counts"
    yield from _of_classes(loss, names)
    if mask is not None:
        yield "multilabel"
    yield "binary"


def _of_classes(loss: Loss, names: list[str]) -> Iterator[str]:
    """Whether the second argument are classes, identities, or what the first is compared with.

    Raises:
      TypeError: if it is a kind of loss that is known, and none of those that can be asked.
    """
    (embedding,), (divergence,) = (_usual(loss, kind) for kind in ("embedding", "divergence"))
    taken = next((f for f in _usual(loss, "multiclass") if _dry.refusal(loss, f) is None), None)
    if taken and taken.labels == "ids":
        if _dry.is_cumulative(loss, taken):
            raise TypeError(f"{name_of(loss)} {ORDINAL}")
        yield "embedding" if _dry.only_compares(loss, embedding) else "multiclass"
        return
    labelled = _words(names) & LOGITS or any("label" in n or n == "y_true" for n in names)
    if not labelled and _dry.turns(loss, divergence):
        yield "divergence"
    elif taken and _dry.is_softmax(loss, taken):
        if not _dry.of_two_softmaxes(loss, taken):
            yield "multiclass"
        elif _dry.teaches(loss, divergence):
            raise TypeError(f"{name_of(loss)} {TEACHER.format(name_of(loss))}")
        else:
            yield "divergence"


def _follows(loss: Loss, kind: str) -> bool:
    return any(_dry.follows(loss, form) for form in _usual(loss, kind))
