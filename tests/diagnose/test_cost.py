"""What a loss costs, and which of ours is the same and costs less.

Programs for accelerators are compiled in processes of their own, since this one has the flags and
devices of the tests. Where the compilers are not installed, these tests are skipped. XLA decides on
bytes and kernels before the passes that the suite does without: they are the same with all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffmetrics as dm
from diffmetrics import diagnose
from diffmetrics.diagnose import _cost, _counterparts, _programs, _targets
from tests.diagnose.processes import python

partial = functools.partial
array = partial(jax.ShapeDtypeStruct, dtype=np.float32)
MASKS = array((4, 64, 64))
LEAST = 3 * 4 * 4 * 64 * 64


# --- figures --------------------------------------------------------------------------------------


def test_a_loss_of_one_value_per_element_is_told_with_its_least():
    found = diagnose.cost(dm.hinge_loss, MASKS, MASKS)
    assert (found.loss, found.device, found.ours) == ("hinge_loss", "CPU", None)
    assert found.least_bytes == LEAST
    assert LEAST <= found.bytes < 2 * LEAST
    assert found.ratio == found.bytes / LEAST
    assert found.compile_seconds > 0
    assert str(found).startswith(f"hinge_loss on CPU: moves {found.ratio:.2f} x the least bytes, ")


def test_predictions_may_be_a_tree_and_arrays_of_any_type():
    def spread(outputs: dict[str, jax.Array], target: jax.Array) -> jax.Array:
        return dm.gaussian_nll(outputs["mean"], outputs["scale"], target)

    narrow = jnp.ones(1000, jnp.bfloat16)
    outputs, target = {"mean": narrow, "scale": narrow}, np.ones(1000, np.float32)
    found = diagnose.cost(spread, outputs, target)
    assert found.least_bytes == 2 * 2000 + 4000 + 2 * 2000
    mask = jax.ShapeDtypeStruct((4, 64, 64), bool)
    found = diagnose.cost(dm.dice_loss, MASKS, mask)
    assert found.least_bytes == (4 + 1 + 4) * 4 * 64 * 64


def test_labels_may_come_first():
    def twice(y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        return jnp.concatenate([y_true, y_pred]).sum() + y_pred.mean()

    found = diagnose.cost(twice, array((1000,)), jax.ShapeDtypeStruct((1,), np.float32))
    assert found.least_bytes == 2 * 4000 + 4


def test_a_loop_that_nobody_can_count_is_told():
    cost = diagnose.Cost("mine", "TPU v5e", 3 * 2**20, 2**20, 0, 1, 0.5, endless=1)
    assert str(cost) == (
        "mine on TPU v5e: moves at least 3.00 x the least bytes, no temporary arrays, 1 kernel, "
        "compiled in\n0.5 s.\nThe least: one reading of predictions and labels, one writing of "
        "the gradient, 1.0 MiB."
    )
    better = dataclasses.replace(cost, bytes=2**20, endless=0)
    both = dataclasses.replace(cost, ours=better)
    assert str(both).endswith("\nmine, of the same value and gradient: 1.00 x.")
    assert json.loads(json.dumps(both.to_dict()))["ours"]["ratio"] == 1.0
    assert dataclasses.replace(cost, bytes=12_345 * 2**20).times == "at least 12,345 x"


def test_settings_of_this_process_are_left_as_they_were():
    def settings() -> tuple[Any, ...]:
        return jax.config.values["jax_platforms"], jax.config.values["jax_enable_compilation_cache"]

    before = settings()
    with pytest.raises(ValueError, match="nothing works"):
        diagnose.cost(_refuses, MASKS, MASKS)
    assert settings() == before


@pytest.mark.parametrize(
    ("loss", "logits", "labels", "message"),
    [
        (3, MASKS, MASKS, "loss must be callable, got int"),
        (dm.dice_loss, None, MASKS, "logits must be an array, .*, got NoneType"),
        (dm.dice_loss, MASKS, "masks", "labels must be an array, .*, got str"),
        (dm.dice_loss, (4, 64), (4, 64), r"got \(4, 64\): of a shape make a jax.ShapeDtypeStruct"),
        (dm.dice_loss, [1.0, 2.0], MASKS, "logits must be an array, .*, got list"),
        (dm.dice_loss, np.ones(3, int), MASKS, "logits must be floating-point numbers, got int64"),
        (dm.dice_loss, array((0, 3)), MASKS, r"logits must not be empty, got .* \(0, 3\)"),
        (dm.dice_loss, array((10**14, 10**6)), MASKS, "logits of shape .* are .* TiB"),
    ],
)
def test_what_is_no_array_is_named(loss: Any, logits: Any, labels: Any, message: str):
    with pytest.raises((TypeError, ValueError), match=message):
        diagnose.cost(loss, logits, labels)


def test_what_meets_what_is_told():
    column = array((1024, 1))
    found = diagnose.cost(optax.sigmoid_binary_cross_entropy, array((1024,)), column)
    assert found.broadcast == (1024, 1024)
    assert "broadcast against each other, to (1024, 1024): every prediction" in str(found)


def test_why_there_is_no_better_one_is_told(monkeypatch: pytest.MonkeyPatch):
    small = array((8, 8))
    assert "no other that is the same" in diagnose.cost(dm.dice_loss, small, small).compared
    none = diagnose.cost(optax.squared_error, small, small)
    assert str(none).endswith(
        "\nNo loss of this library was found that has the same value and gradient."
    )
    assert "loops_of_unknown_length" in none.to_dict()
    monkeypatch.setattr(_cost, "HARDLY_MORE", 1e9)
    assert diagnose.cost(_dice, small, small).compared == "No loss of the same arrays moves less."


def _refuses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    raise ValueError("nothing works")


def test_what_is_lacking_is_named(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="target must be one of h100, v5e, v6e, cpu, got 'v4'"):
        diagnose.cost(dm.dice_loss, MASKS, MASKS, target="v4")
    monkeypatch.setattr(_targets, "versions", lambda name: {})
    packages = "jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12"
    wanted = f"target h100 needs jax-cuda12-plugin, .*: pip install {packages}"
    with pytest.raises(ValueError, match=wanted):
        diagnose.cost(dm.dice_loss, MASKS, MASKS, target="H100")


# --- ours of the same value and gradient ----------------------------------------------------------


def _dice(logits: jax.Array, labels: jax.Array, *, smooth: float = 0.0, **axis: Any) -> jax.Array:
    p, y = jax.nn.sigmoid(logits), jnp.asarray(labels, jnp.float32)
    both, sums = (p * y).sum(**axis), p.sum(**axis) + y.sum(**axis)
    return (1.0 - (2.0 * both + smooth) / (sums + smooth)).mean()


def _pairs(logits: jax.Array, labels: jax.Array) -> jax.Array:
    z, y = logits.ravel(), labels.ravel() > 0
    both = y[:, None] & ~y[None]
    return jnp.where(both, jax.nn.relu(1.0 - z[:, None] + z[None]) ** 2, 0.0).sum() / both.sum()


def _gaussian(outputs: tuple[jax.Array, jax.Array], target: jax.Array) -> jax.Array:
    mean, scale = outputs
    half_log = 0.5 * jnp.log(2.0 * jnp.pi)
    return 0.5 * ((target - mean) / scale) ** 2 + jnp.log(scale) + half_log


def _contrastive(pair: tuple[jax.Array, jax.Array], same: jax.Array) -> jax.Array:
    distance = jnp.linalg.norm(pair[0] - pair[1], axis=-1)
    return 0.5 * jnp.where(same > 0, distance**2, jax.nn.relu(1.0 - distance) ** 2)


def _summed(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_focal_loss(logits, labels, alpha=0.25).sum()


def _of_images(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.sigmoid_binary_cross_entropy(logits, labels).sum((1, 2)).mean()


CLASSES, IDS = array((2, 64, 64, 1000)), jax.ShapeDtypeStruct((2, 64, 64), np.int32)
OUTPUTS, EMBEDDINGS = (array((1000,)),) * 2, (array((64, 128)),) * 2
EQUAL: list[tuple[Callable[..., Any], Any, Any, str]] = [
    (optax.sigmoid_focal_loss, MASKS, MASKS, "sigmoid_focal_loss"),
    (partial(optax.sigmoid_focal_loss, gamma=3), MASKS, MASKS, "sigmoid_focal_loss(gamma=3)"),
    (_summed, MASKS, MASKS, "sigmoid_focal_loss(alpha=0.25)"),
    (_of_images, MASKS, MASKS, "sigmoid_cross_entropy"),
    (_dice, MASKS, MASKS, "dice_loss"),
    (partial(_dice, smooth=1.0), MASKS, IDS.update(shape=(4, 64, 64)),
     "dice_loss(prior=Counts(tp=0.5))"),
    (partial(_dice, axis=(1, 2)), MASKS, MASKS, "dice_loss(axis=(1, 2))"),
    (_pairs, array((9000,)), array((9000,)), "roc_auc_loss(surrogate='squared_hinge')"),
    (optax.softmax_cross_entropy_with_integer_labels, CLASSES, IDS, "softmax_cross_entropy"),
    (optax.softmax_cross_entropy, CLASSES, CLASSES, "softmax_cross_entropy"),
    (_gaussian, OUTPUTS, OUTPUTS[0], "gaussian_nll"),
    (_contrastive, EMBEDDINGS, array((64,)), "contrastive_loss"),
]  # fmt: skip


def _equal(loss: Callable[..., Any], predictions: Any, labels: Any) -> str | None:
    def mean(z: Any, y: Any) -> jax.Array:
        return _programs.total(loss(z, y))

    with _programs.quiet():
        found = _counterparts.equal(loss, mean, predictions, labels)
    return found and found.name


@pytest.mark.parametrize(
    ("loss", "predictions", "labels", "name"), EQUAL, ids=[row[3] for row in EQUAL]
)
def test_the_loss_of_ours_that_is_the_same_is_found(
    loss: Callable[..., Any], predictions: Any, labels: Any, name: str
):
    assert _equal(loss, predictions, labels) == f"diffmetrics.{name}"


def test_a_loss_of_decisions_is_told_from_one_of_soft_labels():
    focal = diagnose.cost(optax.sigmoid_focal_loss, MASKS, MASKS)
    entropy = diagnose.cost(optax.sigmoid_binary_cross_entropy, MASKS, MASKS)
    masks = jax.ShapeDtypeStruct(MASKS.shape, np.uint8)
    whole = diagnose.cost(optax.sigmoid_focal_loss, MASKS, masks)
    assert [x.decided for x in (focal, entropy, whole)] == [True, False, False]
    assert all(x.ours for x in (focal, entropy, whole))
    assert " gradient at labels of 0 and 1: " in str(focal)


def test_another_loss_has_no_counterpart():
    def almost(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.sigmoid_focal_loss(logits, labels, gamma=2.1)

    def constant(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return 0.0 * logits.sum()

    images = array((2, 8))
    assert _equal(almost, images, images) is None
    assert _equal(constant, images, images) is None
    assert _equal(_refuses, images, images) is None
    assert _equal(dm.sigmoid_cross_entropy, images, images) is None  # which is ours


def test_what_has_no_kind_has_no_counterpart_and_a_cost_all_the_same():
    def of_trees(predictions: Any, labels: Any) -> jax.Array:
        return (predictions - labels["a"]) ** 2 * jnp.exp(labels["b"])

    two = {"a": array((8,)), "b": array(())}
    assert diagnose.cost(of_trees, array((8,)), two).ours is None
    assert diagnose.cost(of_trees, array(()), two | {"a": array(())}).least_bytes == 16


def test_the_cost_of_ours_stands_beside():
    found = diagnose.cost(optax.sigmoid_focal_loss, MASKS, MASKS)
    assert found.ours is not None
    assert found.ours.loss == "diffmetrics.sigmoid_focal_loss"
    assert found.ours.bytes == diagnose.cost(dm.sigmoid_focal_loss, MASKS, MASKS).bytes
    assert 2 * found.ours.bytes < found.bytes


# --- in the report of a batch ---------------------------------------------------------------------


def _told(loss: Any, number: int) -> diagnose.Finding:
    z = np.random.default_rng(0).normal(size=number).astype(np.float32)
    (found,) = [f for f in diagnose.run(loss, z, z < 0.3).results if f.probe == "cost"]
    return found


def test_a_report_of_a_batch_holds_the_cost():
    assert _told(_dice, 64).status == "ok"
    sound = _told(dm.sigmoid_cross_entropy, 2**18)
    assert sound.status == "ok"
    assert " x the least bytes, " in sound.evidence


def test_arrays_on_several_devices_are_looked_at_as_on_one():
    explicit = (jax.sharding.AxisType.Explicit,)
    mesh = jax.make_mesh((2,), ("batch",), explicit, devices=jax.devices()[:2])
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    z = np.linspace(-1, 1, 64, dtype=np.float32)
    spread = [jax.device_put(x, place) for x in (z, z > 0)]
    here, there = (diagnose.run(dm.sigmoid_cross_entropy, *x) for x in ((z, z > 0), spread))
    assert [f.probe for f in here.results] == [f.probe for f in there.results]


def test_a_loss_that_moves_much_is_noted_with_ours_that_moves_less():
    found = _told(optax.sigmoid_focal_loss, 2**18)
    assert found.status == "note"
    assert "bytes of one reading of its inputs" in found.cause
    assert "kernels, on CPU" in found.evidence
    assert "diffmetrics.sigmoid_focal_loss has the same value and gradient" in found.advice
    pairs = _told(lambda logits, labels: 0.9 * _pairs(logits[:1024], labels[:1024]), 2**18)
    assert (pairs.status, "neither sorts nor compares" in pairs.advice) == ("note", True)


# --- accelerators ---------------------------------------------------------------------------------

ON = """
import json, os, jax, optax
from diffmetrics import diagnose

def settings():
    config = jax.config.values
    return dict(os.environ), config["jax_platforms"], config["jax_enable_compilation_cache"]

before, masks = settings(), jax.ShapeDtypeStruct((16, 768, 768), "float32")
found = diagnose.cost(optax.sigmoid_focal_loss, masks, masks, target="{target}")
print(json.dumps([found.to_dict(), settings() == before]))
"""


@pytest.mark.parametrize("target", ["h100", "v5e"])
def test_a_focal_loss_of_ours_is_one_pass_on_an_accelerator(target: str):
    if absent := _targets.missing(target):
        pytest.skip(f"{', '.join(absent)} not installed: pip install -e '.[accelerators]'")
    done = python("-c", ON.format(target=target), XLA_FLAGS="", JAX_PLATFORMS="")
    found, unchanged = json.loads(done.stdout.splitlines()[-1])
    assert unchanged
    assert found["device"] == _targets.TARGETS[target].title
    assert found["ours"]["loss"] == "diffmetrics.sigmoid_focal_loss"
    assert found["ours"]["ratio"] == pytest.approx(1.0, abs=0.01)
    assert found["ratio"] > 3
