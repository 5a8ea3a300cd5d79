"""Several losses on one output: none is left out, and weights find what they are told to find."""

from __future__ import annotations

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffmetrics as dm

rng = np.random.default_rng(0)
X = np.asarray(rng.normal(size=(20, 3)), np.float32)
Y = np.asarray(rng.normal(size=20) + 3.0 * (rng.uniform(size=20) < 0.2), np.float32)
WEIGHTS = np.asarray([0.3, -0.5, 1.0], np.float32)


def losses_of(parameters: Any) -> dict[str, jax.Array]:
    output = X @ parameters
    return {
        "mse": optax.squared_error(output, Y).mean(),
        "huber": optax.huber_loss(output, Y).mean(),
    }


@functools.cache
def gradient_of(name: str) -> jax.Array:
    return jax.jit(jax.grad(lambda w: losses_of(w)[name]))(WEIGHTS)


def test_every_part_has_its_gradient_times_its_weight():
    def total(parameters: Any, weights: Any) -> Any:
        return dm.combine(losses_of(parameters), weights)

    alone = jax.jit(losses_of)(WEIGHTS)
    for alpha in (0.0, 1.0, 10.0):
        # A number that is known beforehand may drop a term.
        both = jax.value_and_grad(
            functools.partial(total, weights={"mse": 1.0, "huber": alpha}), has_aux=True
        )
        (value, parts), slope = jax.jit(both)(WEIGHTS)
        expected = gradient_of("mse") + alpha * gradient_of("huber")
        chex.assert_trees_all_close(slope, expected, rtol=1e-5)
        chex.assert_trees_all_close(parts, alone, rtol=1e-6)
        chex.assert_trees_all_close(value, alone["mse"] + alpha * alone["huber"], rtol=1e-6)


def test_an_alpha_sweep_is_one_vmap_and_no_new_compilation():
    traces = []

    @jax.jit
    def slope(parameters: Any, alpha: Any) -> jax.Array:
        traces.append(alpha)
        weights = {"mse": 1.0, "huber": alpha}
        return jax.grad(lambda w: dm.combine(losses_of(w), weights)[0])(parameters)

    alphas = jnp.array([0.0, 0.5, 2.0])
    each = jnp.stack([slope(WEIGHTS, a) for a in alphas])
    assert len(traces) == 1
    swept = jax.vmap(slope, (None, 0))(WEIGHTS, alphas)
    chex.assert_trees_all_close(swept, each, rtol=1e-5)
    chex.assert_trees_all_close(swept[0], gradient_of("mse"), rtol=1e-5)


def test_the_number_zero_drops_a_term_and_a_traced_zero_does_not():
    losses = {"good": jnp.float32(2.0), "bad": jnp.float32(jnp.inf)}
    for zero in (0, 0.0, np.float32(0.0)):
        total, parts = dm.combine(losses, {"good": 1.0, "bad": zero})
        assert total == 2.0
        assert set(parts) == {"good", "bad"}  # for the log, since it was there already
    with jax.debug_nans(False):
        assert jnp.isnan(dm.combine(losses, {"good": 1.0, "bad": jnp.float32(0.0)})[0])


def test_a_dropped_function_is_not_even_called():
    def never() -> jax.Array:
        raise AssertionError("computed in vain")

    losses = {"cheap": lambda: jnp.float32(3.0), "dear": never}
    total, parts = dm.combine(losses, {"cheap": 2.0, "dear": 0.0})
    assert total == 6.0
    assert parts == {"cheap": 3.0}
    with pytest.raises(AssertionError, match="in vain"):
        dm.combine(losses, {"cheap": 2.0, "dear": 1.0})
    nothing, parts = dm.combine({"dear": never}, {"dear": 0})
    assert nothing == 0.0
    assert parts == {}


def test_losses_of_every_example_are_combined_example_by_example():
    each = {"a": np.arange(4.0, dtype=np.float32), "b": np.ones(4, np.float32)}
    total, _ = dm.combine(each, {"a": 2.0, "b": np.asarray([1, 2, 3, 4], np.float32)})
    np.testing.assert_allclose(total, [1.0, 4.0, 7.0, 10.0])
    half = {name: jnp.asarray(x, jnp.bfloat16) for name, x in each.items()}
    total, parts = dm.combine(half, {"a": 1.0, "b": 1.0})
    chex.assert_type([total, *parts.values()], jnp.float32)


def test_mistakes_are_named():
    one = jnp.ones(())
    with pytest.raises(ValueError, match="'b' has no weight"):
        dm.combine({"a": one, "b": one}, {"a": 1.0})
    with pytest.raises(ValueError, match="'hubr' is no loss"):
        dm.combine({"a": one}, {"a": 1.0, "hubr": 1.0})
    with pytest.raises(ValueError, match="losses must not be empty"):
        dm.combine({}, {})
    with pytest.raises(ValueError, match=r"b must have the shape of a: b is \(4, 1\), a is \(4,\)"):
        dm.combine({"a": jnp.ones(4), "b": jnp.ones((4, 1))}, {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="the weight of a must broadcast to a"):
        dm.combine({"a": one}, {"a": np.ones(3)})
    for adaptive in (dm.uncertainty_weights, dm.dynamic_average_weights):
        with pytest.raises(ValueError, match="'b' has no entry"):
            adaptive({"a": 0.0}, {"a": one, "b": one})
        with pytest.raises(ValueError, match="a must have the shape of a scalar"):
            adaptive({"a": 0.0}, {"a": jnp.ones(3)})
    with pytest.raises(ValueError, match="a must have the shape of a scalar"):
        dm.gradient_norm_weights({"a": 0.0}, {"a": lambda o: o}, jnp.ones(3))


def test_losses_are_given_by_name():
    one, names = jnp.ones(()), {"a": 1.0}
    message = "must be given by name, a mapping such as .*, got list"
    for losses, weights, first in (
        ([one, one], [1, 1], "losses"),
        ([one], names, "losses"),
        (names, [1.0], "weights"),
    ):
        with pytest.raises(TypeError, match=f"{first} {message}"):
            dm.combine(losses, weights)  # pyright: ignore[reportArgumentType]
    adaptive: Any
    for adaptive in (dm.uncertainty_weights, dm.dynamic_average_weights):
        with pytest.raises(TypeError, match=f"state {message}"):
            adaptive([0.0], names)
        with pytest.raises(TypeError, match=f"losses {message}"):
            adaptive(names, [1.0])
    adaptive = dm.gradient_norm_weights
    with pytest.raises(TypeError, match=f"losses {message}"):
        adaptive(names, [jnp.sum], jnp.ones(3))


def test_a_sum_has_the_type_of_its_losses():
    strict = jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict")
    each = {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 3), np.float32)}
    with strict[0], strict[1], jax.enable_x64(True):
        total, _ = dm.combine(each, {"a": 2, "b": np.array([1.0, 2.0, 3.0], np.float32)})
        chex.assert_type(total, jnp.float32)
        np.testing.assert_array_equal(total, [[3.0, 4.0, 5.0]] * 2)
        parts = {name: jnp.float32(2.0) for name in each}
        state, norms = dict.fromkeys(each, 0.0), {"a": jnp.sum, "b": lambda o: (o**2).sum()}
        of_losses = dm.uncertainty_weights, dm.dynamic_average_weights
        adaptive = [functools.partial(of, state, parts) for of in of_losses]
        output = jnp.ones(3, jnp.float32)
        adaptive += [functools.partial(dm.gradient_norm_weights, state, norms, output)]
        for weights in adaptive:
            found = jax.tree.leaves(jax.eval_shape(weights))
            assert {x.dtype for x in found} == {jnp.dtype(jnp.float32)}


# --- weights that find themselves -----------------------------------------------------------------


def test_uncertainty_weights_find_the_optimum_of_kendalls_objective():
    parts = {"a": 0.02, "b": 30.0}
    weights, state = dm.uncertainty_weights({"a": 0.0, "b": 0.0}, parts)
    for _ in range(200):
        weights, state = dm.uncertainty_weights(state, parts, rate=0.1)

    def objective(s: dict[str, jax.Array]) -> Any:
        return sum(0.5 * jnp.exp(-s[n]) * parts[n] + 0.5 * s[n] for n in parts)

    slope = jax.grad(objective)(state)
    chex.assert_trees_all_close(slope, {"a": 0.0, "b": 0.0}, atol=1e-5)
    for name, loss in parts.items():
        np.testing.assert_allclose(weights[name] * loss, 0.5, rtol=1e-4)
    weights, _ = dm.uncertainty_weights({"a": -9.9}, {"a": 0.0}, rate=1.0)
    np.testing.assert_allclose(weights["a"], 0.5 * np.exp(10.0), rtol=1e-5)


def test_a_negative_loss_leaves_its_uncertainty_where_it_is():
    """Its objective has no minimum, and ever more weight would go to it: 11,013 at the bound."""
    state: Any = {"nll": 0.5, "mse": 0.5}
    weights: Any = {}
    for _ in range(300):
        weights, state = dm.uncertainty_weights(state, {"nll": -3.0, "mse": 2.0}, rate=0.1)
    np.testing.assert_allclose(weights["nll"], 0.5 * np.exp(-0.5), rtol=1e-6)
    np.testing.assert_allclose(weights["mse"] * 2.0, 0.5, rtol=1e-5)
    assert state["nll"] == 0.5
    sinking: Any = {"nll": 0.5}
    for loss in np.linspace(1.0, -1.0, 41, dtype=np.float32):
        weights, sinking = dm.uncertainty_weights(sinking, {"nll": loss})
        assert weights["nll"] < 1.0


@jax.debug_nans(False)
def test_a_loss_that_is_no_number_has_no_weight():
    state, lost = {"a": 1.0, "b": 1.0}, {"a": jnp.nan, "b": 2.0}
    for before in (state, dict.fromkeys(state, 0.0)):
        weights, after = dm.uncertainty_weights(before, lost)
        assert np.isnan([weights["a"], after["a"]]).all()
        assert np.isfinite(weights["b"])
        weights, after = dm.dynamic_average_weights(before, lost)
        assert np.isnan([weights["a"], weights["b"], after["a"]]).all()
        losses = {"a": lambda o: o.sum() * jnp.nan, "b": jnp.sum}
        weights, after = dm.gradient_norm_weights(before, losses, jnp.ones(3))
        assert np.isnan([weights["a"], weights["b"], after["a"]]).all()
    # Nor is it forgotten in the next epoch.
    for adaptive in (dm.uncertainty_weights, dm.dynamic_average_weights):
        assert np.isnan(adaptive(lost, {"a": 1.0, "b": 2.0})[0]["a"])
    weights, _ = dm.gradient_norm_weights(lost, {"a": jnp.sum, "b": jnp.sum}, jnp.ones(3))
    assert np.isnan(weights["a"])


def test_dynamic_average_weights_are_the_softmax_of_ratios():
    weights, state = dm.dynamic_average_weights({"a": 4.0, "b": 1.0}, {"a": 2.0, "b": 3.0})
    e = np.exp([0.5 / 2, 3.0 / 2])
    np.testing.assert_allclose([weights["a"], weights["b"]], 2 * e / e.sum(), rtol=1e-5)
    chex.assert_trees_all_close(state, {"a": 2.0, "b": 3.0})
    extreme, _ = dm.dynamic_average_weights({"a": 1e-30, "b": 0.0}, {"a": 1e30, "b": 0.0})
    chex.assert_tree_all_finite(extreme)


ON_OUTPUT = {
    "mse": lambda o: jnp.mean((o - Y) ** 2),
    "far": lambda o: 1e4 * jnp.mean(jnp.abs(o - Y)),
}


def balanced(parameters: Any, state: Any, decay: float = 0.9) -> Any:
    output = X @ parameters
    weights, state = dm.gradient_norm_weights(state, ON_OUTPUT, output, decay=decay)
    parts = {name: f(output) for name, f in ON_OUTPUT.items()}
    return dm.combine(parts, weights)[0], (weights, state)


def test_balanced_gradients_are_of_equal_length_at_the_output():
    state = dict.fromkeys(ON_OUTPUT, 0.0)
    _, (weights, state) = balanced(WEIGHTS, state)
    output = X @ WEIGHTS
    lengths = {n: np.linalg.norm(jax.grad(f)(output)) for n, f in ON_OUTPUT.items()}
    for name, length in lengths.items():
        np.testing.assert_allclose(state[name], length, rtol=1e-5)
        np.testing.assert_allclose(weights[name] * length, sum(lengths.values()) / 2, rtol=1e-5)
    _, (_, after) = balanced(2 * WEIGHTS, state, decay=0.75)
    new = {n: np.linalg.norm(jax.grad(f)(2 * output)) for n, f in ON_OUTPUT.items()}
    for name, length in new.items():
        np.testing.assert_allclose(after[name], 0.75 * lengths[name] + 0.25 * length, rtol=1e-5)


def test_balancing_runs_the_network_backwards_once():
    """The only products with the input are one forwards and one backwards."""
    state = dict.fromkeys(ON_OUTPUT, 0.0)
    slope = jax.grad(lambda w: balanced(w, state)[0])
    program = str(jax.make_jaxpr(slope)(WEIGHTS))
    assert program.count("dot_general") == 2
    _, (weights, _) = balanced(WEIGHTS, state)
    expected = sum(
        weights[n] * jax.grad(lambda w, f=f: f(X @ w))(WEIGHTS) for n, f in ON_OUTPUT.items()
    )
    chex.assert_trees_all_close(slope(WEIGHTS), expected, rtol=1e-5)  # weights are constants


def test_a_loss_without_gradient_does_not_disturb_the_others():
    losses = {"flat": lambda o: 0.0 * o["a"].sum(), "steep": lambda o: 1e25 * o["a"].sum()}
    output = {"a": jnp.ones(3), "b": jnp.ones(2)}
    weights, state = dm.gradient_norm_weights(dict.fromkeys(losses, 0.0), losses, output)
    assert weights["flat"] == 1.0
    np.testing.assert_allclose(weights["steep"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(state["steep"], 1e25 * 3**0.5, rtol=1e-5)


def test_adaptive_weights_scan():
    """The state keeps its shape and type, as a training loop under `jax.lax.scan` asks."""

    def step(state: Any, factor: jax.Array) -> Any:
        parts = {"a": factor, "b": 2.0 * factor}
        slow, a = dm.uncertainty_weights(state[0], parts)
        fast, b = dm.dynamic_average_weights(state[1], parts)
        _, c = dm.gradient_norm_weights(state[2], {"a": jnp.sum, "b": jnp.sum}, factor * X[0])
        return (a, b, c), (slow, fast)

    zeros = {"a": jnp.zeros(()), "b": jnp.zeros(())}
    state, weights = jax.lax.scan(step, (zeros, zeros, zeros), jnp.linspace(1.0, 0.5, 5))
    chex.assert_tree_all_finite((state, weights))
