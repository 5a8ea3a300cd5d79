"""What labels and predictions look like that are not what they are taken for."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from diffmetrics.diagnose._report import Finding, defect, note

# Rounding, and a label that was smoothed and scaled back, may lie a little outside of [0, 1].
ROUNDING = 1e-3
# So many logits do not lie in [0, 1] by chance.
FEW = 32


def unlike_probabilities(labels: np.ndarray) -> Finding | None:
    """Floating labels are probabilities: what else they seem to be, or None.

    Integers are decisions, positive above 0, and may be 0 and 255, or -1 and +1.
    """
    y = labels.astype(np.float64).ravel()
    fine = (y >= -ROUNDING) & (y <= 1 + ROUNDING)
    if fine.all() or not jnp.issubdtype(labels.dtype, jnp.floating):
        return None
    evidence = f"{(~fine).mean():.2%} of {y.size} labels, which lie in [{y.min():g}, {y.max():g}]"
    values = set(np.unique(y))
    if values <= {0.0, 255.0}:
        return defect(
            "labels are 0 and 255, as a mask is read from an image: as floats they count as "
            "probabilities, and 255 is none",
            evidence,
            "labels > 0, or labels / 255 if they are shades",
        )
    if values <= {-1.0, 1.0}:
        return defect(
            "labels are -1 and +1: as floats they count as probabilities, and -1 is none",
            evidence,
            "labels > 0, or leave them integers",
        )
    if np.isnan(y).any():
        return defect("labels are not numbers", f"{np.isnan(y).mean():.2%} of them", "leave out")
    return defect(
        "floating labels lie outside of [0, 1], and are no probabilities",
        evidence,
        "scale them, or decide: labels > threshold",
    )


def misread(labels: np.ndarray) -> Finding | None:
    """What to say of integer labels if a loss computes with them, where they mean yes and no."""
    values = set(np.unique(labels).tolist())
    for kind in ({0, 255}, {-1, 1}):
        if values <= kind and not values <= {0, 1}:
            return defect(
                f"labels are {min(kind)} and {max(kind)}, and the loss computes with these numbers",
                f"{labels.dtype} labels, of which {(labels > 0).mean():.2%} are positive",
                "labels > 0",
            )
    return None


def like_probabilities(predictions: np.ndarray) -> Finding | None:
    """Numbers that should be logits, and seem to have been through a sigmoid or softmax."""
    z = predictions.astype(np.float64)
    if not ((z >= 0) & (z <= 1)).all() or np.ptp(z) < 1e-6:
        return None
    shown = f"all {z.size} lie in [{z.min():.3g}, {z.max():.3g}]"
    advice = "give what the last layer returns, or log(p), or log(p / (1 - p))"
    if z.ndim > 1 and z.shape[-1] > 1 and np.allclose(z.sum(-1), 1.0, atol=ROUNDING):
        cause = "logits are probabilities already: those of each example add up to 1"
        return defect(cause, shown, advice)
    if z.size < FEW:
        return None
    return note("logits look like probabilities: none is below 0 or above 1", shown, advice)
