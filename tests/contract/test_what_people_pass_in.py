"""What everyday input does to every public function: masks, NaN, infinities, labels, types, meshes.

Much is asked of one compiled program of value and gradient for each row, with other numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import diffmetrics as dm
from tests.rows import CLASSES, Row, over, the

# They are maps from one number to another: what is NaN stays where it is, and nothing is reduced.
MAPS = ("scale_from_raw", "correct_prior", "correct_class_priors", "normal_interval",
        "probability_integral_transform", "bayes_threshold")  # fmt: skip
OF_ARRAYS = ("elements", "sets", "rankings", "pairs", "distributions", "members", "counting",
             "curves", "calibration", "decisions")  # fmt: skip
WITHOUT_AXES = ("scores", "matrices", "training")
ITERATORS = ("balanced_batches", "stratified_batches")
PER_VALUE = ("elements", "pairs", "distributions", "members")


def takes(row: Row, keyword: str) -> bool:
    return keyword in inspect.signature(row.call or row.public).parameters


# --- what where hides -----------------------------------------------------------------------------


def has_examples(row: Row) -> bool:
    matrix = row.name == "one_vs_rest" or "matrix" in row.names
    return row.family in OF_ARRAYS and row.name not in (*MAPS, "attainable") and not matrix


@over(has_examples, once=True)
def test_every_function_of_several_elements_takes_where(row: Row):
    assert takes(row, "where")


def examples(row: Row) -> tuple[int, ...]:
    """The shape of what a mask is of."""
    if row.name == "elbo_loss" or "identities" in row.names:
        return row.batch[0].shape[:1]
    if row.family in PER_VALUE:
        return jax.tree.leaves(jax.eval_shape(lambda: row(*row.batch)))[0].shape
    place = {"threshold_counts": 1, "bootstrap_threshold": 2}.get(row.name, -1)
    over_classes = row.name == "estimate_class_priors"
    return row.batch[place].shape[: -1 if over_classes else None]


def mask_of(row: Row, kept: np.ndarray) -> np.ndarray:
    """`kept`, of the examples, as the function wants it."""
    if row.name == "pairwise_kl_hinge_loss":
        return kept[:, None] & kept
    over_classes = row.family == "sets" and row.softmax
    return kept[..., None] if over_classes else kept


def hide(x: Any, kept: np.ndarray, value: Any) -> Any:
    """`x` with `value` where it is not kept, if it has the examples on some of its axes."""
    for place in (None, -1, 0):
        full = kept if place is None else np.expand_dims(kept, place)
        fits = (n in (1, m) for n, m in zip(full.shape, np.shape(x), strict=False))
        if np.ndim(x) == full.ndim and all(fits):
            return np.where(full, x, np.asarray(value, np.asarray(x).dtype))
    return x


def is_float(x: Any) -> bool:
    return not isinstance(x, jax.Array) and np.issubdtype(np.asarray(x).dtype, np.floating)


def both(row: Row, arrays: Any, where: Any = None) -> Any:
    """Gradient of the sum of all values in all float arrays, and the value, for a mask."""
    moving = {i: x for i, x in enumerate(arrays) if jnp.issubdtype(x.dtype, jnp.floating)}

    def total(moving: Any) -> Any:
        given = (moving.get(i, x) for i, x in enumerate(arrays))
        value = row(*given, **({} if where is None else {"where": where}))
        leaves = [x for x in jax.tree.leaves(value) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(jnp.sum(x) for x in leaves if x.size), value

    return jax.grad(total, has_aux=True)(moving)


def is_asked(row: Row) -> bool:
    return has_examples(row) and takes(row, "where") and any(map(is_float, row.batch))


@over(is_asked, once=True)
def test_masks_nan_infinities_and_labels(row: Row):
    """All are questions to one program of value and gradient, because compiling takes longest."""
    compiled = jax.jit(partial(both, row))
    whole = mask_of(row, np.ones(examples(row), bool))

    def of(arrays: list[Any], mask: Any = whole) -> Any:
        return compiled(arrays, mask)

    what_is_hidden_reaches_neither_value_nor_gradient(row, of)
    if row.name not in STATISTICS:
        nan_never_flatters(row, lambda arrays: number_of(row, of(arrays)[1]))
    if row.family in ("elements", "sets", "rankings"):
        infinite_logits_are_the_largest_numbers(row, of)
    if any(map(is_flags, row.batch)):
        integer_labels_are_positive_above_zero(row, lambda arrays: of(arrays)[1])


# --- masks ----------------------------------------------------------------------------------------


def what_is_hidden_reaches_neither_value_nor_gradient(row: Row, of: Callable[..., Any]) -> None:
    shape = examples(row)
    kept = np.arange(np.prod(shape)).reshape(shape) % 4 != 1
    mask = mask_of(row, kept)
    slope, value = of(strange(row, kept, 0.5), mask)
    with jax.debug_nans(False):
        for number in (np.nan, np.inf, -np.inf):
            found = of(strange(row, kept, number), mask)
            chex.assert_trees_all_close(found[1], value, rtol=1e-6, atol=1e-7)
            for i, gradient in found[0].items():
                if row.name != "elbo_loss" or i == 0:
                    hidden = hide(np.zeros(np.shape(gradient)), kept, 1.0) > 0
                    assert not np.any(np.asarray(gradient)[hidden]), (i, number)
                np.testing.assert_allclose(gradient, slope[i], rtol=1e-5, atol=1e-6)


def strange(row: Row, kept: np.ndarray, value: float) -> list[Any]:
    """Its arrays with `value` in what is hidden; the divergences of weights are of no example."""
    hidden = row.batch[: 1 if row.name == "elbo_loss" else None]
    shown = [hide(x, kept, value) if is_float(x) else x for x in hidden]
    return [*shown, *row.batch[len(shown) :]]


# --- NaN ------------------------------------------------------------------------------------------

LOSSES = ("elements", "sets", "rankings", "pairs", "distributions", "members")
# What is smaller where it is better; all others that are a number for NaN are larger.
LESS = ("equal_error_rate", "min_detection_cost", "conformal_quantile")
# They only count or rank, and the numbers made of them are asked.
STATISTICS = ("counts", "curve", "threshold_counts", "roc_curve", "precision_recall_curve",
              "detection_error_curve", "recall_at_precision", "fit_threshold",
              "bootstrap_threshold", "reliability_bins")  # fmt: skip


def nan_never_flatters(row: Row, number: Callable[[list[Any]], np.ndarray]) -> None:
    """All predictions, or one: the result is NaN, or no better than that of any numbers."""
    predictions, *rest = row.batch
    one = predictions.copy()
    one.ravel()[np.argmax(one)] = np.nan
    with jax.debug_nans(False):
        for broken in (np.full_like(predictions, np.nan), one):
            found = number([broken, *rest])
            if row.family in PER_VALUE and found.ndim:
                assert np.all(np.isnan(found[lost(row, broken, found.shape)])), found
            elif not np.all(np.isnan(found)):
                assert row.family not in LOSSES, found
                sign = -1 if row.name in LESS else 1
                others = np.stack([sign * number([x, *rest]) for x in filled(row, broken)])
                assert np.all(sign * found <= others.min(0) + 1e-6), (found, others.min(0))


def number_of(row: Row, value: Any) -> np.ndarray:
    """What a row is judged by: of variances the one of the means."""
    return np.asarray(jax.tree.leaves(value)[row.name == "decompose_variance"], np.float64)


def filled(row: Row, broken: np.ndarray) -> list[np.ndarray]:
    """Numbers instead of NaN: any, or of scores, where ties count for much, wrong ones."""
    draws = list(np.random.default_rng(0).normal(size=(20, *broken.shape)))
    wrong = [9.0 - 18.0 * row.batch[1]] if row.family == "curves" else draws
    return [np.where(np.isnan(broken), x, broken).astype(np.float32) for x in wrong]


def lost(row: Row, broken: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The values whose predictions are broken; an identity without a partner has none."""
    every = (np.isnan(broken), np.isnan(broken).any(-1), np.isnan(broken).any(0))
    found = next(np.asarray(x) for x in every if x.shape == shape)
    return found & (row.batch[1] != 2) if "identities" in row.names else found


# --- infinities and labels ------------------------------------------------------------------------


def infinite_logits_are_the_largest_numbers(row: Row, of: Callable[..., Any]) -> None:
    logits, labels = (np.copy(x) for x in row.batch)
    logits[0], logits[1], logits[2] = np.inf, -np.inf, np.resize([-np.inf, 0.5], logits[2].shape)
    logits[3] = np.resize([0.5, np.inf], logits[3].shape)
    chex.assert_tree_all_finite(of([logits, labels]))


def integer_labels_are_positive_above_zero(row: Row, of: Callable[[list[Any]], Any]) -> None:
    """So masks of 0/255 and labels -1/+1 mean what their owners mean."""

    def with_labels(negative: int, positive: int) -> list[Any]:
        return [np.where(x > 0, positive, negative) if is_flags(x) else x for x in row.batch]

    for numbers in ((0, 255), (-1, 1)):
        chex.assert_trees_all_equal(of(with_labels(*numbers)), of(with_labels(0, 1)))


def is_flags(x: Any) -> bool:
    x = np.asarray(x) if not isinstance(x, jax.Array) else np.zeros(1)
    return x.dtype.kind == "i" and set(x.ravel().tolist()) == {0, 1}


# --- types ----------------------------------------------------------------------------------------


@over(lambda r: r.name not in ITERATORS, once=True)
def test_float32_stays_float32_in_64_bit_mode(row: Row):
    """With hyper-parameters that are Python numbers, and integer labels of 64 bits."""
    with jax.enable_x64(True):
        value = jax.eval_shape(lambda: row(*row.batch))
    floating = [x.dtype for x in jax.tree.leaves(value) if jnp.issubdtype(x.dtype, jnp.floating)]
    # Integers have no float type of their own.
    wide = row.family in ("scores", "matrices") or row.name == "one_vs_rest"
    assert set(floating) <= {jnp.dtype(jnp.float64 if wide else jnp.float32)}, floating


# --- many devices ---------------------------------------------------------------------------------


def on_devices(row: Row) -> bool:
    return (
        row.name not in (*ITERATORS, "bayes_threshold", "one_vs_rest")
        and row.family not in WITHOUT_AXES
    )


def spread(x: Any, mesh: Any, *axes: Any) -> Any:
    """An array on a mesh, repeated so that its examples can be shared among 8 devices."""
    if isinstance(x, jax.Array) or np.ndim(x) == 0:
        return x
    sizes = zip(axes, np.shape(x), strict=False)
    fitting = [a if n % mesh.shape[a] == 0 else None for a, n in sizes]
    return jax.device_put(np.asarray(x), NamedSharding(mesh, PartitionSpec(*fitting)))


def repeated(row: Row) -> list[Any]:
    """Its arrays, with as many examples as 8 devices can share."""
    place = -1 if row.family == "members" else 0
    numbers = [isinstance(x, jax.Array) or np.ndim(x) == 0 for x in row.batch]
    return [
        x if number else np.concatenate([x] * 8, place)
        for x, number in zip(row.batch, numbers, strict=True)
    ]


def one_axis(row: Row, x: Any) -> PartitionSpec:
    if isinstance(x, jax.Array) or np.ndim(x) == 0:
        return PartitionSpec()
    place = np.ndim(x) - 1 if row.family == "members" else 0
    return PartitionSpec(*[None] * place, "data")


@over(on_devices, once=True)
def test_explicit_meshes_and_shard_map_are_no_obstacle(row: Row):
    """To tracing, which is where they are in the way; the numbers are asked of some."""
    arrays = repeated(row)

    def of(*given: Any) -> Any:
        return both(row, given) if row.family in LOSSES else row(*given)

    def spread_over(sizes: tuple[int, ...], *names: str) -> tuple[Any, list[Any]]:
        mesh = jax.make_mesh(sizes, names, axis_types=(AxisType.Explicit,) * len(names))
        return mesh, [spread(x, mesh, *names) for x in arrays]

    _, given = spread_over((4, 2), "data", "model")
    jax.jit(of).trace(*given)
    mesh, given = spread_over((8,), "data")
    with jax.set_mesh(mesh):
        jax.jit(of).trace(*given)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    options: Any = {"mesh": mesh, "out_specs": PartitionSpec("data")}
    split = tuple(one_axis(row, x) for x in arrays)

    @partial(jax.shard_map, in_specs=split, **options)
    def mapped(*given: Any) -> Any:
        return jax.tree.map(lambda x: x[None], of(*given))

    jax.jit(mapped).trace(*arrays)


ON_DEVICES = ("sigmoid_focal_loss", "softmax_cross_entropy", "dice_loss", "average_precision_loss")


@over(lambda r: r.name in ON_DEVICES and r is the(r.name))
def test_numbers_on_explicit_meshes_are_those_of_one_device(row: Row):
    """Eagerly and under jit, with a mesh that is set and without; elements stay where they are."""
    arrays = repeated(row)

    def whole_and_slope(first: jax.Array, *rest: Any) -> Any:
        return jax.value_and_grad(lambda x: jnp.sum(row(x, *rest)))(first)

    expected, alone = jax.jit(whole_and_slope)(*arrays), row(*arrays)
    for sizes, names in ((8,), ("data",)), ((4, 2), ("data", "model")):
        mesh = jax.make_mesh(sizes, names)  # Explicit is the default
        given = [spread(x, mesh, *names) for x in arrays]
        value = row(*given)
        chex.assert_trees_all_close(np.asarray(value), np.asarray(alone), rtol=1e-5, atol=1e-6)
        if row.family in PER_VALUE and "identities" not in row.names:
            whole = tuple(jax.typeof(given[0]).sharding.spec)
            assert tuple(jax.typeof(value).sharding.spec) == whole[: value.ndim]
        with jax.set_mesh(mesh):
            found = jax.jit(whole_and_slope)(*given)
        assert jax.typeof(found[1]).sharding.spec == jax.typeof(given[0]).sharding.spec
        found, plain = (jax.tree.map(np.asarray, x) for x in (found, expected))
        chex.assert_trees_all_close(found, plain, rtol=1e-5, atol=1e-6)


# --- classes on any axis --------------------------------------------------------------------------


@over(lambda r: takes(r, "class_axis") and r.batch is CLASSES, once=True)
def test_classes_may_lie_on_any_axis(row: Row):
    logits, ids = CLASSES
    images = np.stack([logits, 0.5 - logits]).reshape(2, 3, 4, 4)
    truth = np.stack([ids, ids[::-1]]).reshape(2, 3, 4)
    options = {"axis": (0, 1, 2)} if "axis" in row.options else {}
    first = {"axis": (0, 2, 3)} if "axis" in row.options else {}
    expected = row(images, truth, **options)
    found = row(np.moveaxis(images, -1, 1), truth, class_axis=1, **first)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


@over(lambda r: r.batch is CLASSES and r.name != "confusion", once=True)
def test_ids_of_eight_bits_name_some_of_many_classes(row: Row):
    rng = np.random.default_rng(0)
    logits, ids = rng.normal(size=(6, 300)).astype(np.float32), np.array([0, 3, 44, 100, 127, 5])
    traced = {k: np.full((300,) * np.ndim(v), np.mean(v), "f") for k, v in row.traced.items()}
    expected = row(logits, ids, **traced)
    for dtype in (np.int8, np.uint8) if row is the(row.name) else (np.int8,):
        chex.assert_trees_all_equal(row(logits, ids.astype(dtype), **traced), expected)


@over(lambda r: r.name in ("softmax_cross_entropy", "kl_divergence") and r is the(r.name))
def test_channels_first_take_no_more_memory(row: Row):
    def temporary(of: Callable[..., Any], *shape: int) -> float:
        z = jax.ShapeDtypeStruct(shape, jnp.float32)
        program = jax.jit(jax.value_and_grad(lambda z: of(z).sum())).lower(z).compile()
        memory = program.memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes / (4 * np.prod(shape))

    def of(z: jax.Array, **options: Any) -> jax.Array:
        other = jnp.zeros((4, 64, 64), jnp.int32) if row.softmax else 0.5 * z
        return row(z, other, **options)

    last, first = temporary(of, 4, 64, 64, 16), temporary(partial(of, class_axis=1), 4, 16, 64, 64)
    assert first <= last + 0.05


def test_a_mean_over_labelled_examples():
    """The line of docs/arguments.md, with the void ids that people have."""
    z = np.array([[2.0, 0, 1], [0, 3, 1], [5, 1, 0], [1, 2, 3]], np.float32)
    weights = np.array([1.0, 2, 3], np.float32)
    expected = np.asarray(dm.softmax_cross_entropy(z[:2], np.array([0, 2])))
    for void in (255, -1):
        ids = np.array([0, 2, void, void])
        known = (ids >= 0) & (ids < 3)
        with jax.debug_nans(False):
            broken = np.where(known[:, None], z, np.nan)
            loss = np.asarray(dm.softmax_cross_entropy(broken, ids, where=known))
        mean = np.sum(loss) / np.sum(known)
        np.testing.assert_allclose(mean, expected.mean(), rtol=1e-6)
        of = np.where(known, weights[np.where(known, ids, 0)], 0)
        loss = np.asarray(dm.weighted_softmax_cross_entropy(z, ids, class_weights=weights))
        weighted = np.sum(expected * weights[[0, 2]]) / weights[[0, 2]].sum()
        np.testing.assert_allclose(np.sum(loss) / np.sum(of), weighted, rtol=1e-6)
