"""The losses by name: the `value` of each is a scalar of the outputs and the speakers of one batch.

A batch holds the same even number of segments of each of some speakers, one speaker after another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffmetrics as dm
from diffmetrics.diagnose import Kind
from experiments.speakers.networks import Outputs, unit

KL_MARGIN = 3.0  # nats; that of the published BiLSTM
ASKED_MARGIN = 1.0
TRIPLET_MARGIN = 0.3
CONTRASTIVE_MARGIN = 1.2  # of embeddings of length 1, whose distances end at 2
NEGATIVES = 12  # for each anchor of random triplets
SCALE, ANGLE = 24.0, 0.2


@dataclasses.dataclass(frozen=True)
class Loss:
    """How to train on it, and what the loss doctor is shown."""

    value: Callable[[Outputs, jax.Array], jax.Array]
    """``(outputs, speakers [B]) -> scalar``."""
    examined: Callable[..., jax.Array]
    """The same loss as the loss doctor calls it: of logits and labels, or what its kind takes."""
    kind: Kind
    active: Callable[[Outputs, jax.Array], jax.Array] | None = None
    """Share of the hinges that still push, for losses that have any."""
    slow: bool = False
    """Whether it takes twice the steps: at first all outputs look alike, and little pushes."""


# --- all pairs of a batch -------------------------------------------------------------------------


def one_way(logits: jax.Array, identities: jax.Array) -> jax.Array:
    """The KL hinge in one direction of each pair, from the earlier to the later."""
    upper = jnp.triu(jnp.ones((len(logits), len(logits)), bool), 1)
    return dm.pairwise_kl_hinge_loss(logits, identities, margin=KL_MARGIN, where=upper)


def contrastive(embeddings: jax.Array, identities: jax.Array) -> jax.Array:
    """Mean contrastive loss of all pairs.

    Few of them are the same. To weigh those up to the others does worse: the embeddings then lie
    in fewer directions.
    """
    i, j = np.triu_indices(len(embeddings), 1)
    same = identities[i] == identities[j]
    loss = dm.contrastive_loss(embeddings[i], embeddings[j], same, margin=CONTRASTIVE_MARGIN)
    return loss.mean()


def random_triplets(embeddings: jax.Array, identities: jax.Array) -> jax.Array:
    """Mean triplet loss of neighbours in the batch with negatives at several distances from them.

    Those that it does not need are left out of the mean, as they would only shrink it.
    """
    count = len(embeddings)
    anchors = np.arange(count)
    segments = jnp.argmax(identities != identities[0])  # of a speaker
    positives = anchors // segments * segments + (anchors + 1) % segments
    moved = jnp.arange(1, NEGATIVES + 1)[:, None] * segments
    negatives = (anchors[None] + moved) % count
    a, p = (
        jnp.broadcast_to(embeddings[k], (NEGATIVES, *embeddings.shape))
        for k in (anchors, positives)
    )
    told_apart = identities[negatives] != identities[anchors][None]
    loss = dm.triplet_loss(a, p, embeddings[negatives], margin=TRIPLET_MARGIN, where=told_apart)
    needed = jnp.sum(loss > 0.0, dtype=loss.dtype)
    return jnp.sum(loss) / jnp.maximum(needed, 1.0)


def triplet(embeddings: jax.Array, identities: jax.Array) -> jax.Array:
    return dm.batch_hard_triplet_loss(embeddings, identities, margin=TRIPLET_MARGIN).mean()


def soft_triplet(embeddings: jax.Array, identities: jax.Array) -> jax.Array:
    """Without a margin: it rests at log 2 if all embeddings collapse."""
    return dm.batch_hard_triplet_loss(embeddings, identities, margin=0.0, sharpness=1.0).mean()


def angular_margin(cosines: jax.Array, speakers: jax.Array) -> jax.Array:
    return dm.angular_margin_loss(cosines, speakers, scale=SCALE, angular_margin=ANGLE).mean()


def angular_margin_of_logits(logits: jax.Array, speakers: jax.Array) -> jax.Array:
    """For the loss doctor, whose numbers are no cosines."""
    return angular_margin(jnp.tanh(logits), speakers)


def cross_entropy(logits: jax.Array, speakers: jax.Array) -> jax.Array:
    return dm.softmax_cross_entropy(logits, speakers).mean()


# --- of a question on Stack Overflow --------------------------------------------------------------
# `asked` is its loss, reproduced literally, errors included; `asked-mended` is what was meant.


def asked(p: jax.Array, q: jax.Array, same: jax.Array) -> jax.Array:
    """The question's loss as it runs: of pairs of softmax outputs [B, C], and labels [B, 1].

    `kullback_leibler_divergence` sums over the last axis and returns [B], though it told Keras
    that it returns [B, 1], so that Keras brings the labels as [B, 1]. Their product with [B] is
    [B, B], every label with every divergence; and the mean over the last axis of the hinge, the
    batch by then, is one number. What is left is mean(labels) * mean(KL) + mean(1 - labels) *
    mean(hinge): which pair is the same makes no difference.
    """
    tiny = 1e-7
    p, q = jnp.clip(p, tiny, 1.0), jnp.clip(q, tiny, 1.0)  # Keras's, whose gradient ends there
    divergence = jnp.sum(p * jnp.log(p / q), axis=-1)
    hinge = jnp.mean(jnp.maximum(ASKED_MARGIN - divergence, 0.0), axis=-1)
    return jnp.mean(same * divergence[None] + (1.0 - same) * hinge)


def mended(logits_p: jax.Array, logits_q: jax.Array, same: jax.Array) -> jax.Array:
    """What was meant: the same margin, direction and pairs, in shapes that agree."""
    return dm.kl_hinge_loss(logits_p, logits_q, same, margin=ASKED_MARGIN).mean()


def as_pairs(logits: jax.Array, speakers: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A batch as the question has it: B / 2 pairs, and whether they are of one speaker.

    Neighbours are a pair. Every second one takes its right half from the next speaker, so that as
    many are the same as not.
    """
    left = np.arange(0, len(speakers), 2)
    segments = jnp.argmax(speakers != speakers[0])  # of a speaker
    moved = jnp.arange(len(left)) % 2 * segments
    right = (left + 1 + moved) % len(speakers)
    same = (speakers[left] == speakers[right]).astype(logits.dtype)
    return logits[left], logits[right], same


def _asked(outputs: Outputs, speakers: jax.Array) -> jax.Array:
    a, b, same = as_pairs(outputs.logits, speakers)
    return asked(jax.nn.softmax(a), jax.nn.softmax(b), same[:, None])


def _mended(outputs: Outputs, speakers: jax.Array) -> jax.Array:
    return mended(*as_pairs(outputs.logits, speakers))


def asked_of_logits(a: jax.Array, b: jax.Array, same: jax.Array) -> jax.Array:
    """`asked` for the loss doctor, who brings logits and labels [B]."""
    return asked(jax.nn.softmax(a), jax.nn.softmax(b), same[:, None])


def _active_pairs(outputs: Outputs, speakers: jax.Array) -> jax.Array:
    """Share of the different pairs, in either direction, that are closer than the margin."""
    log_p = jax.nn.log_softmax(outputs.logits)
    crossed = jnp.exp(log_p) @ log_p.T
    near = jnp.diagonal(crossed)[:, None] - crossed < KL_MARGIN
    different = speakers[:, None] != speakers[None]
    return jnp.sum(near & different) / jnp.maximum(jnp.sum(different), 1)


def _active_contrastive(outputs: Outputs, speakers: jax.Array) -> jax.Array:
    x = unit(outputs.embedding)
    near = jnp.sqrt(jnp.maximum(2.0 - 2.0 * x @ x.T, 0.0)) < CONTRASTIVE_MARGIN
    different = speakers[:, None] != speakers[None]
    return jnp.sum(near & different) / jnp.maximum(jnp.sum(different), 1)


def _active_triplets(outputs: Outputs, speakers: jax.Array) -> jax.Array:
    loss = dm.batch_hard_triplet_loss(unit(outputs.embedding), speakers, margin=TRIPLET_MARGIN)
    return jnp.mean(loss > 0.0)


def _of_logits(loss: Callable[..., jax.Array], kind: Kind = "embedding", **rest: Any) -> Loss:
    return Loss(lambda out, ids: loss(out.logits, ids), loss, kind, **rest)


def _of_embedding(loss: Callable[..., jax.Array], **rest: Any) -> Loss:
    return Loss(lambda out, ids: loss(unit(out.embedding), ids), loss, "embedding", **rest)


def _kl(**options: Any) -> Loss:
    loss = partial(dm.pairwise_kl_hinge_loss, margin=KL_MARGIN, **options)
    return _of_logits(loss, active=_active_pairs, slow=True)


# To add one: `value` is trained on; `examined`, of this `kind`, is what the loss doctor is shown.
LOSSES: dict[str, Loss] = {
    "asked": Loss(_asked, asked_of_logits, "pair"),
    "asked-mended": Loss(_mended, mended, "pair"),
    "kl-hinge": _kl(),
    "kl-hinge-one-way": _of_logits(one_way, active=_active_pairs, slow=True),
    "kl-hinge-detached": _kl(detach_target=True),
    "kl-softplus": _kl(sharpness=1.0),
    "contrastive": _of_embedding(contrastive, active=_active_contrastive),
    "triplet-random": _of_embedding(random_triplets),
    "triplet": _of_embedding(triplet, active=_active_triplets),
    "triplet-softplus": _of_embedding(soft_triplet),
    "angular-margin": Loss(
        lambda out, ids: angular_margin(out.cosines, ids), angular_margin_of_logits, "multiclass"
    ),
    "cross-entropy": _of_logits(cross_entropy, "multiclass"),
}
