"""How a loss wants to be called: kinds of predictions, order of arguments, logits or probabilities.

A `Form` holds the predictions of a batch as one array, whatever the loss takes, so that every probe
moves one array and reads one gradient.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

Loss = Callable[..., Any]
Kind = Literal[
    "binary",
    "multilabel",
    "multiclass",
    "pair",
    "divergence",
    "embedding",
    "triplet",
    "mean_scale",
    "regression",
]
KINDS: tuple[str, ...] = get_args(Kind)

# The names under which the arguments of a loss go.
LABELS = {
    "label", "labels", "y", "y_true", "target", "targets", "truth", "true", "ground_truth", "mask",
    "masks", "ids", "expected",
}  # fmt: skip
SCALES = ("scale", "std", "sigma", "stddev", "deviation")
CLASSES = 4
WIDTH = 8  # of an embedding


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to call a loss.

    Attributes:
      kind: what is predicted.
      shape: of the predictions of a batch, as one array.
      call: ``call(loss, predictions, labels)``.
      labels: what labels are: "binary", "ids", "one-hot", "real", or "none".
      axis: the axis of `shape` that holds the examples.
      words: how the loss is called, for readers.
      probabilities: whether what the loss gets is squeezed into probabilities first.
    """

    kind: str
    shape: tuple[int, ...]
    call: Callable[[Loss, Any, Any], Any]
    labels: str
    axis: int = 0
    words: str = "loss(logits, labels)"
    probabilities: bool = False
    raw_scale: bool = False

    @property
    def examples(self) -> int:
        return self.shape[self.axis]

    def predictions(self, seed: int = 0) -> np.ndarray:
        """Predictions as an untrained but not senseless model makes them."""
        rng = np.random.default_rng(seed)
        x = rng.normal(size=self.shape).astype(np.float32)
        if self.kind in ("pair", "divergence", "triplet", "embedding"):
            return 1.5 * x
        if self.kind == "mean_scale" and not self.raw_scale:
            x[1] = np.exp(0.5 * x[1])
        return x

    def targets(self, seed: int = 0) -> np.ndarray:
        """Labels in which every row and every column holds every class."""
        n = np.arange(self.examples)
        if self.labels == "ids":
            return (n % CLASSES).astype(np.int32)
        if self.labels == "one-hot":
            return np.eye(CLASSES, dtype=np.float32)[n % CLASSES]
        if self.labels == "real":
            return np.random.default_rng(seed + 99).normal(size=self.examples).astype(np.float32)
        if self.labels == "none":
            return np.zeros(self.examples, np.float32)
        if self.kind == "pair":
            return (n % 2).astype(np.float32)
        return self.positives(1)

    def positives(self, each: int) -> np.ndarray:
        """0/1 labels: `each` positives in every four, that move on by one from four to four."""
        size = int(np.prod(self.shape))
        i, j = np.divmod(np.arange(size), 4)
        return (((j - i) % 4) < each).astype(np.float32).reshape(self.shape)


def _logits_first(loss: Loss, z: Any, y: Any) -> Any:
    return loss(z, y)


def _labels_first(loss: Loss, z: Any, y: Any) -> Any:
    return loss(y, z)


def _behind(activation: Callable[[Any], Any], call: Any) -> Any:
    return lambda loss, z, y: call(loss, activation(z), y)


BINARY_SHAPES = ((64,), (16, 4), (4, 4, 4), (4, 4, 4, 1), (2, 2, 4, 4, 1))


def required(loss: Loss) -> list[str]:
    """Names of the positional arguments without a default; two nameless ones if nobody knows.

    Raises:
      TypeError: if the loss needs keywords, which the caller has to bind.
    """
    try:
        parameters = list(inspect.signature(loss).parameters.values())
    except (TypeError, ValueError):
        return ["", ""]
    free = [p for p in parameters if p.default is p.empty]
    keywords = [p.name for p in free if p.kind is p.KEYWORD_ONLY]
    if keywords:
        raise TypeError(
            f"{name_of(loss)} needs the keywords {', '.join(keywords)}: bind them, "
            f"functools.partial(loss, {keywords[0]}=...), or pass them on the command line, "
            f"--set {keywords[0]}=..."
        )
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional if p in free]
    if len(names) == 1 and len(positional) > 1:
        names.append(positional[1].name)  # (predictions, targets=None), as optax has it
    if any(p.kind is p.VAR_POSITIONAL for p in free) and len(names) < 2:
        return ["", ""]
    return names


def name_of(loss: Loss) -> str:
    """What to call a loss in a report."""
    if isinstance(loss, functools.partial):
        bound = ", ".join(f"{k}={v}" for k, v in loss.keywords.items() if np.ndim(v) == 0)
        return f"{name_of(loss.func)}({bound})" if bound else name_of(loss.func)
    name = getattr(loss, "__name__", type(loss).__name__)
    return "loss" if name == "<lambda>" else name


def labels_lead(names: list[str]) -> bool:
    """Whether the names say that labels come before predictions."""
    return len(names) > 1 and names[0].lower() in LABELS and names[1].lower() not in LABELS


def kind_of_names(names: list[str]) -> str | None:
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
        if low[0].startswith("embedding"):
            return "embedding"
        if low[0][-2:] == "_p" or set(low) == {"p", "q"}:
            return "divergence"
        if low[0] in ("outputs", "raw", "parameters") and "label" not in low[1]:
            return "mean_scale"
    return None


def forms(loss: Loss, kind: str, *, probabilities: bool = False) -> list[Form]:
    """The ways in which a loss of this kind may be called, the likely ones first."""
    names = required(loss)
    lead = labels_lead(names)
    call = _labels_first if lead else _logits_first
    words = "loss(labels, {})" if lead else "loss({}, labels)"
    what = "probabilities" if probabilities else "logits"
    squeeze: Callable[[Any], Any]
    squeeze = jax.nn.sigmoid if kind in ("binary", "multilabel") else jax.nn.softmax
    if kind in ("binary", "multilabel"):
        shapes = BINARY_SHAPES if kind == "binary" else BINARY_SHAPES[1:2]
        found = [Form(kind, s, call, "binary", words=words.format(what)) for s in shapes]
    elif kind == "multiclass":
        shape, text = (32, CLASSES), words.format(what)
        found = [
            Form(kind, shape, call, "ids", words=text.replace("labels", "ids")),
            Form(kind, shape, call, "one-hot", words=text.replace("labels", "one_hot")),
        ]
    elif kind == "regression":
        found = [Form(kind, (64,), call, "real", words=words.format("predictions"))]
    elif kind == "pair":
        found = [_pair_form(lead)]
    elif kind == "divergence":
        text = f"loss({what}_p, {what}_q)"
        found = [Form(kind, (2, 16, WIDTH), lambda f, z, y: f(z[0], z[1]), "none", 1, text)]
    elif kind == "embedding":
        found = [Form(kind, (16, WIDTH), call, "ids", words=words.format("embeddings"))]
    elif kind == "triplet":
        text = "loss(anchors, positives, negatives)"
        found = [Form(kind, (3, 16, WIDTH), lambda f, z, y: f(*z), "none", 1, text)]
    elif kind == "mean_scale":
        found = _scale_forms(names, lead)
    else:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if probabilities:
        found = [
            dataclasses.replace(f, call=_behind(squeeze, f.call), probabilities=True) for f in found
        ]
    return found


def _pair_form(lead: bool) -> Form:
    if lead:
        return Form(
            "pair",
            (2, 16, WIDTH),
            lambda f, z, y: f(y, z[0], z[1]),
            "binary",
            1,
            "loss(same, a, b)",
        )
    return Form(
        "pair", (2, 16, WIDTH), lambda f, z, y: f(z[0], z[1], y), "binary", 1, "loss(a, b, same)"
    )


def _scale_forms(names: list[str], lead: bool) -> list[Form]:
    shape = (2, 64)
    make = functools.partial(Form, "mean_scale", shape, labels="real", axis=1)
    if len(names) == 3:
        if lead:
            return [make(call=lambda f, z, y: f(y, z[0], z[1]), words="loss(target, mean, scale)")]
        return [make(call=lambda f, z, y: f(z[0], z[1], y), words="loss(mean, scale, target)")]
    order = (lambda f, p, y: f(y, p)) if lead else (lambda f, p, y: f(p, y))
    raw = make(
        call=lambda f, z, y: order(f, jnp.moveaxis(z, 0, -1), y),
        words="loss(outputs [..., 2], target)",
        raw_scale=True,
    )
    both = make(call=lambda f, z, y: order(f, (z[0], z[1]), y), words="loss((mean, scale), target)")
    return [raw, both]


# --- trying -------------------------------------------------------------------------------------


def total(out: Any) -> Any:
    """What a loss returned as one number: the mean of what it left unreduced."""
    if isinstance(out, tuple) and out:
        out = out[0]  # (loss, auxiliary)
    xp: Any = jnp if isinstance(out, jax.Array) else np
    x = xp.asarray(out)
    if x.dtype.kind not in "fV":
        raise TypeError(f"the loss returned {x.dtype} of shape {x.shape}, which has no gradient")
    wide = x.astype(xp.promote_types(x.dtype, np.float32))
    return xp.sum(wide / max(x.size, 1))


CONCRETE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.UnexpectedTracerError,
)


def shape_of(loss: Loss, form: Form, predictions: Any, labels: Any) -> tuple[int, ...]:
    """Shape of what the loss returns, without running it if it can be traced. Raises."""

    def output(z: Any, y: Any) -> Any:
        out = form.call(loss, z, y)
        return out[0] if isinstance(out, tuple) and out else out

    arguments = (jnp.asarray(predictions), jnp.asarray(labels))
    with quiet():
        try:
            return tuple(jnp.shape(jax.eval_shape(output, *arguments)))
        except CONCRETE:
            return tuple(np.shape(output(*arguments)))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Dry calls try what the loss may warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def value(loss: Loss, form: Form, predictions: Any, labels: Any) -> float:
    """The loss of one batch as one number, run without `jit`; NaN if it raises."""
    try:
        with quiet():
            return float(total(form.call(loss, jnp.asarray(predictions), jnp.asarray(labels))))
    except Exception:
        return float("nan")


def fits(loss: Loss, form: Form) -> str | None:
    """None if the loss can be called so, or what it raised."""
    try:
        with quiet():
            shape_of(loss, form, form.predictions(), form.targets())
    except Exception as error:
        return f"{form.words} with {form.shape}: {said(error)}"
    return None


def said(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:140] if lines else ''}"


def candidates(loss: Loss) -> Iterator[str]:
    """Kinds that the loss may be of, by its signature and by what it accepts and ignores."""
    names = required(loss)
    named = kind_of_names(names)
    if named:
        yield named
        return
    if len(names) == 3 and _is_scale(loss):
        yield "mean_scale"
        return
    if len(names) != 2:
        raise TypeError(
            f"{name_of(loss)} takes {len(names)} positional arguments ({', '.join(names)}); "
            "a loss takes predictions and labels, or a pair and whether it is the same: "
            "wrap it in a function of those"
        )
    if _is_scale(loss):
        yield "mean_scale"
    if _is_regression(loss):
        yield "regression"
    (ids, one_hot), (embedding,) = forms(loss, "multiclass"), forms(loss, "embedding")
    if fits(loss, ids) is None:
        yield "embedding" if _only_compares(loss, embedding) else "multiclass"
    elif fits(loss, one_hot) is None and _is_softmax(loss, one_hot):
        yield "multiclass"
    yield "binary"


def _same(a: float, b: float) -> bool:
    return bool(np.isfinite(a) and np.isfinite(b) and abs(a - b) <= 1e-4 * (1e-3 + abs(a)))


def _is_regression(loss: Loss) -> bool:
    """Moving predictions and targets together changes nothing, moving one of them does."""
    (form,) = forms(loss, "regression")
    z, y = form.predictions() + 4.0, form.targets() + 4.0
    here = value(loss, form, z, y)
    moved = value(loss, form, z + 2.0, y)
    return _same(here, value(loss, form, z + 2.0, y + 2.0)) and not _same(here, moved)


def _is_scale(loss: Loss) -> bool:
    names = required(loss)
    for form in _scale_forms(names, labels_lead(names)):
        z, y = form.predictions(), form.targets() + 4.0
        z[0] += 4.0
        up = np.array([[2.0], [0.0]], np.float32)
        here = value(loss, form, z, y)
        if _same(here, value(loss, form, z + up, y + 2.0)) and not _same(
            here, value(loss, form, z + up, y)
        ):
            return True
    return False


def _only_compares(loss: Loss, form: Form) -> bool:
    """Other names for the same identities change nothing: what counts is who equals whom."""
    z, ids = form.predictions(), form.targets()
    return _same(value(loss, form, z, ids), value(loss, form, z, (ids + 1) % CLASSES))


def _is_softmax(loss: Loss, form: Form) -> bool:
    """Logits of an example may move together, each example by its own amount."""
    z, y = form.predictions(), form.targets()
    offsets = np.arange(form.examples, dtype=np.float32)[:, None] % 5.0
    here = value(loss, form, z, y)
    return _same(here, value(loss, form, z + offsets, y)) and not _same(
        here, value(loss, form, -z, y)
    )
