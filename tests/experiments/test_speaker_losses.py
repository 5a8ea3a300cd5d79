"""Losses of the speakers experiment, and how its embeddings are clustered and judged."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec as P
from scipy import special
from scipy.cluster import hierarchy
from sklearn.metrics import adjusted_rand_score, balanced_accuracy_score, det_curve

from experiments.speakers import backend, clustering, labels, losses, measure
from experiments.speakers.clustering import misclassification_rate
from experiments.speakers.losses import LOSSES
from experiments.speakers.networks import Outputs, unit

rng = np.random.default_rng(0)


# --- losses ---------------------------------------------------------------------------------------

SPEAKERS, EACH, CLASSES = 5, 4, 8
IDS = np.repeat(np.arange(SPEAKERS), EACH)


@pytest.fixture(scope="module")
def outputs() -> Outputs:
    noise = np.random.default_rng(5).normal(size=(2, len(IDS), CLASSES))
    embedding = jnp.asarray(noise[0], jnp.float32)
    return Outputs(embedding, jnp.asarray(noise[1], jnp.float32), unit(embedding))


def test_shuffled_labels_change_every_loss_but_the_questions():
    assert [each.loss for each in labels.of_every_loss() if each.blind] == ["asked"]


def test_the_questions_loss_is_two_means_and_the_labels_only_weigh_them():
    p, q = special.softmax(rng.normal(size=(2, 6, 10)), -1).astype(np.float32)
    same = np.array([1.0, 0, 0, 1, 0, 0])
    divergence = np.sum(p * np.log(p / q), -1)
    hinge = np.maximum(1.0 - divergence, 0)
    expected = same.mean() * divergence.mean() + (1 - same).mean() * hinge.mean()
    asked = jax.jit(losses.asked)
    for order in itertools.islice(itertools.permutations(same), 0, 720, 90):
        np.testing.assert_allclose(asked(p, q, np.array(order)[:, None]), expected, rtol=2e-6)


def test_the_questions_loss_has_no_gradient_where_half_of_the_pairs_are_the_same():
    x = jnp.asarray(rng.normal(size=(2, 8, 10)) * 0.3, jnp.float32)
    same = jnp.asarray([1.0, 0.0] * 4)

    def loss(x):
        return losses.asked_of_logits(x[0], x[1], same)

    value, gradient = jax.jit(jax.value_and_grad(loss))(x)
    assert value == pytest.approx(0.5 * losses.ASKED_MARGIN)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-7)


def test_as_many_pairs_of_the_question_are_the_same_as_not():
    ids = np.repeat(np.arange(6) + 3, 4)
    left, right, same = jax.jit(losses.as_pairs)(np.arange(len(ids), dtype=np.float32), ids)
    told = ids[np.asarray(left, int)] == ids[np.asarray(right, int)]
    np.testing.assert_array_equal(same, told)
    assert told.mean() == 0.5
    assert (left != right).all()


def test_random_triplets_are_those_of_loops():
    x = rng.normal(size=(len(IDS), 3))
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    costs = []
    for i in range(len(IDS)):
        positive = i // EACH * EACH + (i + 1) % EACH
        for k in range(1, losses.NEGATIVES + 1):
            negative = (i + k * EACH) % len(IDS)
            if IDS[negative] != IDS[i]:
                gap = np.linalg.norm(x[i] - x[positive]) - np.linalg.norm(x[i] - x[negative])
                costs.append(max(0.0, gap + losses.TRIPLET_MARGIN))
    found = jax.jit(losses.random_triplets)(x.astype(np.float32), IDS)
    np.testing.assert_allclose(found, np.sum(costs) / np.count_nonzero(costs), rtol=1e-5)


def test_shares_of_active_hinges_are_those_of_loops(outputs: Outputs):
    log_p = np.asarray(jax.nn.log_softmax(outputs.logits), float)
    x = np.asarray(unit(outputs.embedding), float)
    kl, distance = [], []
    for i, j in itertools.permutations(range(len(IDS)), 2):
        if IDS[i] != IDS[j]:
            kl.append(np.sum(np.exp(log_p[i]) * (log_p[i] - log_p[j])) < losses.KL_MARGIN)
            distance.append(np.linalg.norm(x[i] - x[j]) < losses.CONTRASTIVE_MARGIN)
    for name, expected in (("kl-hinge", kl), ("contrastive", distance)):
        active = LOSSES[name].active
        assert active is not None
        assert jax.jit(active)(outputs, IDS) == pytest.approx(np.mean(expected), abs=1e-6)


# --- devices --------------------------------------------------------------------------------------

# One for each way in which a loss looks at the speakers of other rows, or at none.
ACROSS = ("asked-mended", "kl-hinge", "contrastive", "triplet", "triplet-random", "angular-margin")


def test_a_batch_over_eight_devices_has_the_loss_and_gradient_of_one():
    """Each of them sees few speakers."""
    assert jax.device_count() == 8
    weights = rng.normal(size=(6, CLASSES)).astype(np.float32)
    x = rng.normal(size=(40, 6)).astype(np.float32)
    ids = np.repeat(np.arange(10), 4) % CLASSES

    @jax.jit
    def every(weights: jax.Array, x: jax.Array, ids: jax.Array) -> dict:
        def of(weights: jax.Array, name: str) -> jax.Array:
            embedding = jnp.tanh(x @ weights)
            return LOSSES[name].value(Outputs(embedding, 2.0 * embedding, unit(embedding)), ids)

        return {name: jax.value_and_grad(of)(weights, name) for name in ACROSS}

    # Auto: some of these losses pick rows, and JAX wants to be told where explicit ones then lie.
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    batch = jax.device_put((x, ids), NamedSharding(mesh, P("batch")))
    spread = every(jax.device_put(weights, NamedSharding(mesh, P())), *batch)
    chex.assert_trees_all_close(spread, every(weights, x, ids), rtol=1e-6, atol=1e-6)


# --- clustering and metrics -----------------------------------------------------------------------


def by_brute_force(clusters: np.ndarray, speakers: np.ndarray) -> float:
    """The misclassification rate over all assignments of clusters to speakers, or to nobody."""
    found, ids = np.unique(clusters), np.unique(speakers)
    names = [*found, *[None] * len(ids)]
    right = max(
        sum(
            np.sum((speakers == speaker) & (clusters == cluster))
            for speaker, cluster in zip(ids, chosen, strict=True)
            if cluster is not None
        )
        for chosen in itertools.permutations(names, len(ids))
    )
    return 1.0 - right / len(speakers)


@pytest.mark.parametrize("seed", range(3))
def test_the_misclassification_rate_is_that_of_all_assignments(seed: int):
    made = np.random.default_rng(seed)
    speakers, clusters = made.integers(0, 3, 9), made.integers(0, 4, 9)
    rate = misclassification_rate(clusters, speakers)
    assert rate == pytest.approx(by_brute_force(clusters, speakers))


def test_a_greedy_assignment_would_count_more_errors():
    speakers = np.array([0, 0, 0, 0, 0, 1, 1])
    clusters = np.array([0, 0, 0, 1, 1, 0, 0])
    # Greedy gives cluster 0 to speaker 0, who has three there, and leaves speaker 1 with none.
    assert misclassification_rate(clusters, speakers) == pytest.approx(3 / 7)


def test_everyone_alone_is_half_wrong_and_all_together_nearly_all():
    speakers = np.repeat(np.arange(40), 2)
    assert misclassification_rate(np.arange(80), speakers) == 0.5
    assert misclassification_rate(np.zeros(80), speakers) == pytest.approx(78 / 80)
    assert misclassification_rate(speakers + 7, speakers) == 0.0


def test_purity_is_that_of_loops():
    speakers, clusters = rng.integers(0, 4, 30), rng.integers(0, 6, 30)
    expected = 0.0
    for i in np.unique(clusters):
        inside = speakers[clusters == i]
        shares = [np.mean(inside == j) ** 2 for j in np.unique(inside)]
        expected += len(inside) * sum(shares) / len(speakers)
    assert clustering.average_cluster_purity(clusters, speakers) == pytest.approx(expected)


@pytest.fixture(scope="module")
def points() -> tuple[np.ndarray, np.ndarray]:
    made = np.random.default_rng(11)
    speakers = np.repeat(np.arange(10), 2)
    return np.repeat(made.normal(size=(10, 5)), 2, 0) + 0.6 * made.normal(size=(20, 5)), speakers


@pytest.mark.parametrize("linkage", clustering.LINKAGES)
def test_trees_are_scipys_of_the_points_themselves(linkage, points):
    x, speakers = points
    tree = clustering.grow(x, linkage)
    np.testing.assert_allclose(tree, hierarchy.linkage(x, linkage, metric="cosine"))
    best = clustering.best_cut(tree, speakers)
    counted = [hierarchy.fcluster(tree, k, "maxclust") for k in range(1, 21)]
    assert best.error == min(misclassification_rate(each, speakers) for each in counted)
    found = clustering.score_cuts(x, speakers, linkage, best.threshold)
    assert found["mr_tuned"] == found["mr_best"] == best.error
    known = hierarchy.fcluster(tree, 10, "maxclust")
    assert found["mr_known"] == misclassification_rate(known, speakers)
    tuned = clustering.cut(tree, best.threshold)
    assert found["ari_tuned"] == pytest.approx(adjusted_rand_score(speakers, tuned))


def test_a_tree_wants_embeddings_and_one_of_zeros_is_near_nothing():
    with pytest.raises(ValueError, match=r"\[n, D\] with n of two or more, got \(1, 3\)"):
        clustering.grow(np.zeros((1, 3)), "complete")
    assert clustering.distances(np.array([[1.0, 0], [0, 0], [1, 0]])).tolist() == [1.0, 0.0, 1.0]


def test_verification_agrees_with_scikit_learn(points):
    x, speakers = points
    same, scores = measure.same_pairs(speakers), -clustering.distances(x)
    fpr, fnr, _ = det_curve(same, scores)
    found = measure.verify(x, speakers)
    place = np.argmin(np.abs(fpr - fnr))
    assert abs(found["eer"] - (fpr[place] + fnr[place]) / 2) <= 0.5 / same.sum()
    prior = measure.TARGET_PRIOR
    cost = np.min(prior * fnr + (1 - prior) * fpr) / prior
    assert found["min_dcf"] == pytest.approx(min(cost, 1.0), rel=1e-5)
    misses = np.array(found["det"]["misses"])
    assert misses[0] == 1.0
    assert (np.diff(misses) <= 0).all()
    alarms = np.array(found["det"]["false_alarms"])
    assert alarms[-1] == 1.0
    # No threshold with so many false alarms at most has fewer misses than the corners say.
    for alarm in np.linspace(0, 1, 23):
        assert misses[alarms <= alarm + 1e-6].min() == pytest.approx(fnr[fpr <= alarm].min())


def test_the_tuned_pair_accuracy_is_balanced(points):
    x, speakers = points
    same, scores = measure.same_pairs(speakers), -clustering.distances(x)
    threshold = measure.tune_pairs(x, speakers)
    accuracy = measure.pair_accuracy(x, speakers, threshold)
    tried = [balanced_accuracy_score(same, scores >= t) for t in scores]
    assert accuracy == pytest.approx(max(tried), abs=1e-6)


def test_effective_rank_counts_directions():
    assert measure.effective_rank(np.ones((10, 4))) == 0.0
    line = np.outer(np.arange(10.0), [1, 2, 3])
    assert measure.effective_rank(line) == pytest.approx(1.0, abs=1e-6)
    corners = np.concatenate([np.eye(3), -np.eye(3)])
    assert measure.effective_rank(corners) == pytest.approx(3.0)


@pytest.fixture(scope="module")
def slanted() -> tuple[np.ndarray, np.ndarray]:
    """Points of speakers who vary more in some directions, which is no help in telling them."""
    made = np.random.default_rng(3)
    ids = np.repeat(np.arange(20), 20)
    spread = np.array([[4.0, 1, 0], [0, 0.3, 0.1], [0, 0, 0.3]])
    return 5.0 + made.normal(size=(20, 3))[ids] + made.normal(size=(400, 3)) @ spread, ids


def test_shrinkage_is_all_of_the_whitening_at_zero_and_none_at_one(slanted):
    x, ids = slanted

    def within(x: np.ndarray) -> np.ndarray:
        residual = x - np.stack([x[ids == k].mean(0) for k in range(20)])[ids]
        return residual.T @ residual / (len(x) - 20)

    covariance = within(x)
    covariance /= np.trace(covariance) / 3
    ridge = backend.RIDGE * np.eye(3)
    for shrinkage in backend.SHRINKAGES:
        white = backend.whitening(x, ids, shrinkage)
        drawn = (1 - shrinkage) * (covariance + ridge) + shrinkage * np.eye(3)
        np.testing.assert_allclose(white.matrix @ drawn @ white.matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(backend.whitening(x, ids, 1.0)(x), x, rtol=1e-12)
    full = backend.whitening(x, ids, 0.0)(x)
    np.testing.assert_allclose(full.mean(0), 0.0, atol=1e-10)
    alike = within(full)
    np.testing.assert_allclose(
        alike, np.eye(3) * np.trace(alike) / 3, rtol=1e-2, atol=1e-2 * np.trace(alike)
    )


def test_as_much_is_whitened_as_the_development_speakers_like(slanted):
    x, ids = slanted
    dev = measure.Heard(x[::5], ids[::5], x, ids)
    tuned = backend.tune(dev, dev)
    assert tuned.shrinkage < 0.5
    assert tuned.dev_eer[tuned.shrinkage] == min(tuned.dev_eer.values()) < tuned.dev_eer[1.0]
    perfect = dev._replace(utterances=np.eye(20)[ids[::5]])  # nothing is left to gain
    other = dev._replace(segments=np.eye(20)[ids] + 1e-3 * rng.normal(size=(400, 20)))
    assert backend.tune(other, perfect).shrinkage == 1.0
