"""How a loss wants to be called: kinds of predictions, order of arguments, logits or probabilities.

A `Form` holds the predictions of a batch as one array, whatever the loss takes, so that every probe
moves one array and reads one gradient. It also answers what differs from kind to kind (who belongs
to which class, which logits have which margin), so that a probe asks the same of all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._padding import Mask
from diffmetrics.diagnose._programs import CONCRETE, jitted, quiet, returned, total

Loss = Callable[..., Any]
Kind = Literal[
    "binary", "multilabel", "multiclass", "pair", "divergence", "embedding", "triplet",
    "mean_scale", "regression", "counts",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Kind)
DECIDING = ("binary", "multilabel")  # every element is a decision of its own
CLASSIFYING = (*DECIDING, "multiclass")
PAIRS = ("pair", "divergence")
COMPARING = (*PAIRS, "triplet", "embedding")  # what counts is who is near to whom
STACKED = (*PAIRS, "triplet", "mean_scale")  # several predictions of an example, on the first axis
OWN = "own batch"  # the kind of a batch of the user's

CLASSES = 4
WIDTH = 8  # of an embedding
NOWHERE = -8.0  # the logit of a class that is neither the true one nor its rival


class Group(NamedTuple):
    """Elements of one class, and for each of all elements the class that its own is held against.

    `members` is boolean, of the shape `Form.elements`. 0/1 labels have no rivals.
    """

    name: str
    members: np.ndarray
    rivals: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to call a loss.

    Attributes:
      kind: what is predicted.
      shape: of the predictions of a batch, as one array.
      predicted: what the loss calls its predictions: one argument, or as many as are stacked.
      called: what it calls the labels.
      labels: what labels are: "binary", "ids", "one-hot", "real", "counts", or "none".
      lead: whether labels come first.
      step: what is done to the predictions before the loss gets them.
      probabilities: whether that squeezes them into probabilities.
      raw_scale: whether a deviation is predicted as a real number, which the loss makes positive.
      mask: how it is told what is padding, if it is.
    """

    kind: str
    shape: tuple[int, ...]
    predicted: tuple[str, ...] = ("logits",)
    called: str = "labels"
    labels: str = "binary"
    lead: bool = False
    step: Callable[[Any], Any] | None = None
    probabilities: bool = False
    raw_scale: bool = False
    mask: Mask | None = None

    def call(self, loss: Loss, predictions: Any, labels: Any, mask: Any = None) -> Any:
        """What the loss returns, by default of real examples, none of which is padding."""
        z = self.step(predictions) if self.step else predictions
        if self.mask is None:
            return loss(*self._in_order(z if len(self.predicted) > 1 else (z,), labels))
        z, y = self.mask.apart(z), self.mask.apart(labels)
        each = z.shape[:-1] if self.kind == "multiclass" else z.shape
        given = self.mask.of(np.ones(each, bool)) if mask is None else mask
        return loss(*self._in_order((z,), y), jnp.asarray(given))

    @property
    def words(self) -> str:
        """How the loss is called, for readers."""
        names = self._in_order(self.predicted, self.called)
        return f"loss({', '.join(names + ([self.mask.name] if self.mask else []))})"

    def _in_order(self, predictions: Any, labels: Any) -> list[Any]:
        some = [] if self.labels == "none" else [labels]
        return [*some, *predictions] if self.lead else [*predictions, *some]

    def squeezed(self) -> Form:
        """The same of probabilities."""
        step = jax.nn.sigmoid if self.decides else jax.nn.softmax
        names = tuple(name.replace("logits", "probabilities") for name in self.predicted)
        return dataclasses.replace(self, step=step, predicted=names, probabilities=True)

    # Questions of kind.

    @property
    def reach(self) -> float:
        """The largest prediction that training can get to: a logit beyond is a lost run."""
        # A rate and a deviation may be exponentials of it.
        return 20.0 if self.kind == "counts" or self.raw_scale else 1e4

    @property
    def decides(self) -> bool:
        """Whether every element is a decision of its own."""
        return self.kind in DECIDING

    @property
    def classifies(self) -> bool:
        """Whether predictions are logits of classes."""
        return self.kind in CLASSIFYING

    @property
    def compares(self) -> bool:
        """Whether what counts is who is near to whom."""
        return self.kind in COMPARING

    @property
    def bare_scale(self) -> bool:
        """Whether the second of the predictions is a deviation itself, which is positive."""
        return self.kind == "mean_scale" and not self.raw_scale

    @property
    def axis(self) -> int:
        """The axis of `shape` that holds the examples."""
        return 1 if self.kind in STACKED else 0

    @property
    def examples(self) -> int:
        """How many examples a batch has."""
        return self.shape[self.axis]

    @property
    def elements(self) -> tuple[int, ...]:
        """Shape of what has a label, and so a margin, of its own."""
        return self.shape[:1] if self.kind == "multiclass" else self.shape

    @property
    def true(self) -> np.ndarray:
        """The class of every example, if there are several."""
        return np.arange(self.examples) % CLASSES

    # Predictions and labels of a batch.

    def predictions(self, seed: int = 0) -> np.ndarray:
        """Predictions as an untrained but not senseless model makes them."""
        x = np.random.default_rng(seed).normal(size=self.shape).astype(np.float32)
        if self.bare_scale:
            x[1] = np.exp(0.5 * x[1])
        return 1.5 * x if self.compares else x

    def targets(self, seed: int = 0) -> np.ndarray:
        """Labels in which every row and every column holds every class."""
        if self.labels in ("ids", "one-hot"):
            return self.encoded(self.true)
        if self.labels == "real":
            return np.random.default_rng(seed + 99).normal(size=self.examples).astype(np.float32)
        if self.labels == "counts":
            return np.random.default_rng(seed).poisson(3.0, self.examples).astype(np.float32)
        if self.labels == "none":
            return np.zeros(self.examples, np.float32)
        return self.positives(1) if self.decides else np.arange(self.examples, dtype="f") % 2

    def positives(self, each: int) -> np.ndarray:
        """0/1 labels: `each` positives in every four, that move on by one from four to four."""
        i, j = np.divmod(np.arange(np.prod(self.shape)), 4)
        return (((j - i) % 4) < each).astype(np.float32).reshape(self.shape)

    def encoded(self, ids: np.ndarray) -> np.ndarray:
        """Class ids as the labels that the loss takes."""
        return ids.astype(np.int32) if self.labels == "ids" else np.eye(CLASSES, dtype="f")[ids]

    def labels_of_share(self, share: float) -> np.ndarray:
        """Labels of which this share are positive, or of class 1 with all others of class 0."""
        size = int(np.prod(self.elements))
        ones = np.arange(size) < round(share * size)
        if not self.decides:
            return self.encoded(ones.astype(int))
        y = np.zeros(size, np.float32)
        y[np.random.default_rng(5).permutation(size)[ones]] = 1.0
        return y.reshape(self.shape)

    def uneven(self) -> np.ndarray:
        """Labels whose two halves differ in what they hold, where that is theirs to choose."""
        if not self.decides:
            return self.targets()
        halves = [np.split(self.positives(each), 2)[i] for i, each in enumerate((1, 2))]
        return np.concatenate(halves)

    def crowd(self, decisions: int) -> tuple[np.ndarray, np.ndarray]:
        """Predictions and labels of so many decisions, each with a logit of 1 on its side."""
        number = decisions // int(np.prod(self.elements[1:]))
        many = dataclasses.replace(self, shape=(number, *self.shape[1:]))
        if not self.decides:
            return many.sides().astype(np.float32), many.targets()
        y = np.maximum(many.targets(), np.roll(many.targets(), 1, -1))
        return 2.0 * y - 1.0, y

    def labellings(self) -> Iterator[tuple[str, np.ndarray]]:
        """Labels that a loss must stand, and what they are called."""
        y = self.targets()
        yield "any labels", y
        if self.kind == "embedding":
            yield "identities that are all different", np.arange(self.examples, dtype=np.int32)
            yield "one identity", np.zeros_like(y)
        elif self.labels in ("ids", "one-hot"):
            yield "labels of one class", self.encoded(0 * self.true)
        elif self.labels == "counts":
            yield "counts that are all 0", np.zeros_like(y)
        elif self.labels == "binary":
            yield "labels that are all 0", np.zeros_like(y)
            yield "labels that are all 1", np.ones_like(y)
        if self.labels == "one-hot":
            yield "labels between 0 and 1", 0.7 * y + 0.075
        elif self.decides:
            yield "labels between 0 and 1", 0.8 * y + 0.1

    # What is right, and by how much.

    def sides(self) -> np.ndarray:
        """The sign of the right logit, in the shape of the predictions."""
        y = self.targets()
        return 2.0 * (np.eye(CLASSES)[y] if self.labels == "ids" else y) - 1.0

    def groups(self, *, pairwise: bool = False) -> list[Group]:
        """Who is of which class, against the next one, or `pairwise` against each other one."""
        if self.decides:
            y = self.targets()
            return [Group("positive", y == 1), Group("negative", y == 0)]
        true, after = self.true, (self.true + 1) % CLASSES
        if not pairwise:
            return [Group(f"class {c}", true == c, after) for c in range(CLASSES)]
        return [
            Group(f"class {c} against {rival}", true == c, np.where(true == c, rival, after))
            for c in range(CLASSES)
            for rival in range(CLASSES)
            if rival != c
        ]

    def at_margins(self, margins: np.ndarray, group: Group | None = None) -> np.ndarray:
        """A batch of each margin: `group` has it, or all have, and the others have margin 1."""
        column = margins.reshape(-1, *[1] * len(self.elements))
        chosen = np.full(self.elements, True) if group is None else group.members
        each = np.where(chosen, column, 1.0)
        if self.decides:
            return each * self.sides()
        return class_logits(self.true, each, group and group.rivals)

    def in_margin(self, gradient: np.ndarray) -> np.ndarray:
        """Of gradients in the logits of batches: those in the margins of their elements."""
        if self.decides:
            return gradient * self.sides()
        return gradient[..., np.arange(self.examples), self.true]

    def at_odds(self, logits: np.ndarray) -> np.ndarray:
        """A batch of each logit, which all positives and negatives, or classes 1 and 0, share."""
        each = np.multiply.outer(logits, np.ones(self.elements))
        return each if self.decides else class_logits(1 + 0 * self.true, each, 0)

    def predictions_of_sizes(self, sizes: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Predictions of many sizes; of a mean and its deviation the mean alone."""
        z = np.multiply.outer(sizes, direction)
        if self.bare_scale:
            z[:, 1] = 1.0
        return z


@dataclasses.dataclass(frozen=True)
class OwnForm(Form):
    """The form of a batch of the user's: it has no other predictions, a tree, and labels."""

    batch: tuple[Any, Any] = ((), ())

    def predictions(self, seed: int = 0) -> Any:
        """Those of the batch."""
        return self.batch[0]

    def targets(self, seed: int = 0) -> Any:
        """Those of the batch."""
        return self.batch[1]

    @property
    def words(self) -> str:
        """Its shapes."""
        shapes = " and ".join(str(a.shape) for a in jax.tree.leaves(self.batch[0]))
        return f"predictions {shapes}, labels {self.batch[1].shape} {self.batch[1].dtype}"


def class_logits(true: np.ndarray, margins: np.ndarray, rivals: Any = None) -> np.ndarray:
    """Logits ``[..., B, C]`` in which the true class leads its rival, or the next, by `margins`."""
    z = np.full((*margins.shape, CLASSES), NOWHERE)
    rows = np.arange(len(true))
    z[..., rows, (true + 1) % CLASSES if rivals is None else rivals] = -margins / 2
    z[..., rows, true] = margins / 2
    return z


def shape_of(loss: Loss, form: Form, predictions: Any, labels: Any) -> tuple[int, ...]:
    """Shape of what the loss returns, without running it if it can be traced. Raises."""

    def output(z: Any, y: Any) -> Any:
        return returned(form.call(loss, z, y))

    arguments = jax.tree.map(jnp.asarray, (predictions, labels))
    with quiet():
        try:
            return tuple(jnp.shape(jax.eval_shape(output, *arguments)))
        except CONCRETE:
            return tuple(np.shape(output(*arguments)))


def value(loss: Loss, form: Form, predictions: Any, labels: Any) -> float:
    """The loss of one batch as one number, NaN if it raises."""
    return values(loss, form, [(predictions, labels)])[0]


def values(loss: Loss, form: Form, batches: Iterable[tuple[Any, Any]]) -> list[float]:
    """The loss of each batch, NaN if it raises.

    Compiled if it can be: step by step each of its operations would be compiled for itself.
    """
    try:
        compiled = _compiled(loss, form)
    except TypeError:  # it has no hash
        compiled = _compiled.__wrapped__(loss, form)
    with quiet():
        ways = (compiled, in_form(loss, form))
        return [_first_value(ways, *map(jnp.asarray, batch)) for batch in batches]


def in_form(loss: Loss, form: Form) -> Callable[[Any, Any], Any]:
    """The loss of predictions and labels as one number."""
    return lambda z, y: total(form.call(loss, z, y))


@functools.lru_cache(8)
def _compiled(loss: Loss, form: Form) -> Callable[[Any, Any], Any]:
    return jitted(in_form(loss, form))


def _first_value(ways: Iterable[Callable[..., Any]], z: Any, y: Any) -> float:
    for way in ways:
        with contextlib.suppress(Exception):  # of which a loss may raise any
            return float(way(z, y))
    return float("nan")


def parameters(loss: Loss) -> Mapping[str, inspect.Parameter]:
    """The arguments of a loss by name; none if nobody knows."""
    try:
        return inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return {}


def name_of(loss: Loss) -> str:
    """What to call a loss in a report."""
    if isinstance(loss, functools.partial):
        bound = ", ".join(f"{k}={v}" for k, v in loss.keywords.items() if np.ndim(v) == 0)
        return f"{name_of(loss.func)}({bound})" if bound else name_of(loss.func)
    name = getattr(loss, "__name__", type(loss).__name__)
    return "loss" if name == "<lambda>" else name
