"""Whether the numbers of a batch of the user's are what the loss takes them for.

A loss says itself what it takes. One of logits is next to nothing where each is far on its right
side, and one of probabilities where each is next to its label. What fits neither, such as a
regression, a distance or a critic, is not asked.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose import _inputs
from diffmetrics.diagnose._forms import OWN
from diffmetrics.diagnose._probes._asked import FAR, Asked, look, one_hot
from diffmetrics.diagnose._probes._marks import marked, unnamed
from diffmetrics.diagnose._registry import probe
from diffmetrics.diagnose._report import Finding, defect
from diffmetrics.diagnose._subject import OwnBatch

CLOSE, BLIND = 1e-3, 1e-5


@probe("inputs", (OWN,), rank=3)
def inputs(batch: OwnBatch) -> list[Finding]:
    """Labels that are not what they are taken for, and logits in the place of probabilities."""
    unusable = _not_numbers(batch) or _multiplied(batch) or _looked_up(batch)
    if unusable is not None:
        return [unusable]
    asked = Asked.of(batch)
    if asked is None:
        return []
    odd = _swapped(asked) or _odd(asked)
    if odd is not None:  # what the loss takes predictions for can be asked with others only
        return [odd]
    found = (unnamed(asked), marked(asked), _predicted(asked))
    return [finding for finding in found if finding is not None]


# --- labels ---------------------------------------------------------------------------------------


def _not_numbers(batch: OwnBatch) -> Finding | None:
    """NaN in labels or predictions, if it reaches the loss or its gradient."""
    if batch.seen.finite:
        return None
    missing = ~np.isfinite(np.asarray(batch.form.targets(), np.float64))
    lost = [~np.isfinite(np.asarray(a, float)) for a in jax.tree.leaves(batch.form.predictions())]
    if not (missing.any() or any(bad.any() for bad in lost)):
        return None
    where = "through the value" if not np.isfinite(batch.seen.value) else "through the gradient"
    if missing.any():
        return _missing(batch, missing)
    if _all_left_out(batch, lost[0]):
        return defect(
            f"predictions are not numbers where nothing is to be learnt, and come {where} of the "
            "loss all the same: 0 times NaN is NaN",
            f"{lost[0].sum()} of {lost[0].size} predictions, all beside labels that name nothing",
            "jnp.where(known, logits, 0) in front of the loss; times known after it is too late",
        )
    return defect(
        "predictions are not numbers: the model or its inputs are at fault, not the loss",
        f"{sum(bad.sum() for bad in lost)} of {sum(bad.size for bad in lost)} are NaN or infinite",
        "look for the first NaN: jax.config.update('jax_debug_nans', True)",
    )


def _missing(batch: OwnBatch, missing: np.ndarray) -> Finding:
    evidence = f"{missing.mean():.2%} of them are NaN or infinite"
    if not np.isfinite(batch.seen.value):
        return defect(
            f"{_inputs.NAN}, and the loss does not leave them out",
            evidence,
            "known = ~isnan(labels); jnp.where(known, labels, 0) in front of the loss, times known",
        )
    return defect(
        f"{_inputs.NAN}: the value leaves them out, and the gradient is NaN on account of them",
        f"{evidence}; loss {batch.seen.value:.4g}",
        "jnp.where(known, labels, 0) in front of the loss too: the branch of a where that is not "
        "taken has a gradient as well",
    )


def _all_left_out(batch: OwnBatch, lost: np.ndarray) -> bool:
    """Whether predictions are lost only beside labels that are marks, or name no class."""
    asked = Asked.of(batch)
    if asked is None or asked.known.all():
        return False
    rows = lost.reshape(asked.known.size, -1).any(1)
    return not (rows & asked.known.ravel()).any()


def _multiplied(batch: OwnBatch) -> Finding | None:
    """Ids of classes that a loss computes with, where 0 and 1 for each class are meant."""
    z, y = batch.form.predictions(), batch.form.targets()
    labels = np.asarray(y, np.float64)
    if not isinstance(z, jax.Array) or z.ndim < 2 or not _broadcast(z.shape, y.shape):
        return None
    number, whole = z.shape[-1], (labels == np.round(labels)).all()
    if not whole or labels.min() < 0 or not 2 <= labels.max() <= number:
        return None
    none, once, twice = (look(batch, z, k * y).value for k in (0, 1, 2))
    if not abs((twice - once) - (once - none)) <= CLOSE * abs(once - none) or once == none:
        return None  # NaN, too, of a loss of ids, to which twice an id may name no class
    if abs(look(batch, z + 1, y + 1).value - once) <= CLOSE * abs(once):
        return None  # a distance between predictions and labels
    return defect(
        "labels are ids of classes, and the loss multiplies with them: class 2 counts twice, and "
        "class 0 not at all",
        f"labels {y.shape} from 0 to {labels.max():g}, predictions {z.shape}; the loss of labels "
        "twice as large is moved twice as far",
        f"jax.nn.one_hot(ids, {number}), or a loss that takes ids, of shape {z.shape[:-1]}",
    )


def _broadcast(predictions: tuple[int, ...], labels: tuple[int, ...]) -> bool:
    """Whether one label is computed with every class of an example, or of another one."""
    if predictions[-1] < 2:
        return False
    square = predictions[-2] == predictions[-1] and len(predictions) == 2
    return labels == (*predictions[:-1], 1) or (square and labels == predictions[:-1])


def _looked_up(batch: OwnBatch) -> Finding | None:
    """Labels of 0 and 1 for each class, of which a loss of ids reads every 0 and 1 as an id."""
    z, y = batch.form.predictions(), batch.form.targets()
    if not isinstance(z, jax.Array) or z.shape != y.shape or not one_hot(np.asarray(y)):
        return None
    shuffled = jnp.asarray(np.random.default_rng(0).permutation(np.ravel(y)).reshape(y.shape))
    *turned, other = (
        abs(look(batch, z, some).value - batch.seen.value) / max(abs(batch.seen.value), 1e-30)
        for some in (jnp.roll(y, 1, -1), jnp.roll(y, 2, -1), shuffled)
    )
    if max(turned) > BLIND or not other > BLIND:  # `labels` tells of a loss that is blind to all
        return None
    return defect(
        "it makes no difference which class of an example is the 1: labels are one-hot, and the "
        "loss takes ids, of which it finds 0 and 1 in every example",
        f"loss {batch.seen.value:.6g}, and the same with the 1 of each example moved on by a class",
        "labels.argmax(-1), or a loss of one-hot labels",
    )


def _swapped(asked: Asked) -> Finding | None:
    """Labels and predictions in each other's place, unless it is a regression or a critic."""
    found = _inputs.swapped(_numbers(asked), np.asarray(asked.y))
    meant = asked.classifies or one_hot(np.asarray(asked.z))  # which no regression returns
    return found if found and meant else None


def _odd(asked: Asked) -> Finding | None:
    """Labels that are not between 0 and 1, if the loss minds."""
    y = np.asarray(asked.y)
    if not asked.decides or y.dtype == bool:
        return None
    floating = jnp.issubdtype(y.dtype, jnp.floating)
    found = _inputs.unlike_probabilities(y) if floating else _inputs.misread(y)
    if found is None or not (asked.as_logits.meant or asked.as_probabilities.meant):
        return None
    if not asked.known.all() and marked(asked) is not None:
        return None  # which tells more
    if asked.reads_as_probabilities:
        return None if _all_one(asked) else found
    return _graded(asked, y)


def _all_one(asked: Asked) -> bool:
    """Whether labels that differ mean the same to the loss, which `labels` tells."""
    y = np.asarray(asked.y)
    if _inputs.one_sided(y) is None:
        return False
    one = asked.look(asked.z, jnp.full_like(asked.y, y.max()))
    return bool(abs(one.value - asked.batch.seen.value) <= 1e-6 * abs(one.value))


def _graded(asked: Asked, y: np.ndarray) -> Finding | None:
    """Integers of many values, of which all above 0 mean yes: so does the noise of a JPEG."""
    values = _inputs.values_of(y)
    if y.dtype.kind == "f" or len(values) < 3 or asked.compares or not asked.reads_signs:
        return None
    return _inputs.graded(y)


# --- predictions ----------------------------------------------------------------------------------


def _predicted(asked: Asked) -> Finding | None:
    if not (asked.as_logits.meant or asked.as_probabilities.meant):
        return None
    if asked.as_logits.meant and asked.as_logits.alive:
        return _like_probabilities(asked) or _like_decisions(asked)
    if asked.compares:
        return None
    return _like_decisions(asked) or _like_percentages(asked) or _logits(asked)


def _like_probabilities(asked: Asked) -> Finding | None:
    """Probabilities where the loss takes logits."""
    if asked.as_probabilities.meant:
        return None
    return _inputs.like_probabilities(_numbers(asked), np.asarray(asked.y))


def _like_decisions(asked: Asked) -> Finding | None:
    if asked.compares:
        return None
    return _inputs.like_decisions(_numbers(asked), np.asarray(asked.y))


def _like_percentages(asked: Asked) -> Finding | None:
    look = _inputs.like_percentages(_numbers(asked))
    if look is None or not asked.as_probabilities.meant:
        return None
    cause = f"predictions {look.what}, and the loss takes probabilities"
    return defect(cause, look.why, look.advice)


def _numbers(asked: Asked) -> np.ndarray:
    return np.asarray(asked.z, np.float64)


def _logits(asked: Asked) -> Finding | None:
    """Logits where the loss takes probabilities."""
    z = _numbers(asked)
    # Distances are never below 0, and may be what is meant.
    if not (z < 0).any() or not asked.as_probabilities.meant:
        return None
    return defect(
        "predictions are logits, and the loss takes probabilities",
        f"they lie in [{z.min():.3g}, {z.max():.3g}]; the loss is next to 0 where each is 0 or 1 "
        f"as its label, and {asked.as_logits.right:.3g} at logits of {FAR:g} on the right side",
        "put a sigmoid or softmax before it; better: a loss that takes logits",
    )
