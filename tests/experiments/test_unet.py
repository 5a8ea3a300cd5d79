import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.ships.unet import GroupNormReLU, UNet, _double, _halve, _join, _part


def small(**options) -> UNet:
    return UNet(**{"width": 8, "depth": 1, "rngs": nnx.Rngs(0)} | options)


@nnx.jit
def logits_of(model: UNet, images: jax.Array) -> jax.Array:
    return model(images)


def normal(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), shape)


def test_logits_are_float32_one_a_pixel_whatever_is_computed_in():
    x = normal(2, 8, 12, 3)
    half = small(dtype=jnp.bfloat16)
    assert {p.dtype for p in jax.tree.leaves(nnx.state(half, nnx.Param))} == {jnp.dtype("float32")}
    logits, near = logits_of(small(), x), logits_of(half, x)
    assert logits.shape == near.shape == (2, 8, 12)
    assert logits.dtype == near.dtype == jnp.float32
    np.testing.assert_allclose(near, logits, atol=0.15)
    # Images of a batch do not influence each other.
    other = logits_of(small(), x.at[1].add(1.0))
    np.testing.assert_allclose(logits[0], other[0], atol=1e-5)
    assert np.any(logits[1] != other[1])


def test_width_depth_and_input_channels_can_be_chosen():
    model = small(width=4, depth=2, channels_in=4)
    assert logits_of(model, normal(1, 16, 16, 4)).shape == (1, 16, 16)
    assert model.encoder[2].conv2.kernel.shape[-1] == 4 * 2**2


def test_every_parameter_gets_a_finite_gradient_that_is_not_zero():
    images = normal(2, 8, 8, 3)
    gradient = nnx.jit(nnx.grad(lambda net: jnp.square(net(images)).mean()))
    for path, leaf in jax.tree.leaves_with_path(gradient(small(dtype=jnp.bfloat16))):
        assert np.isfinite(leaf).all(), path
        assert np.any(np.asarray(leaf) != 0), path


def test_a_size_that_cannot_be_halved_is_named():
    with pytest.raises(ValueError, match=r"divisible by patch \* 2\*\*depth = 2, got 8 x 9"):
        small()(jnp.zeros((1, 8, 9, 3)))


def test_norm_has_value_and_gradient_of_flax_group_norm():
    x, target = normal(2, 6, 4, 16), jax.random.normal(jax.random.key(1), (2, 6, 4, 16))
    ours = GroupNormReLU(16)
    theirs = nnx.GroupNorm(16, num_groups=2, epsilon=1e-5, rngs=nnx.Rngs(0))
    for norm in (ours, theirs):
        nnx.update(norm, {"scale": jnp.linspace(0.5, 2, 16), "bias": jnp.linspace(-1, 1, 16)})

    def loss_and_gradient(norm, act):
        graphdef, params = nnx.split(norm, nnx.Param)
        loss = lambda p, x: (act(nnx.merge(graphdef, p)(x)) * target).sum()  # noqa: E731
        value, (by_param, by_x) = jax.jit(jax.value_and_grad(loss, (0, 1)))(params, x)
        return value, by_x, by_param["scale"][...], by_param["bias"][...]

    ours_, theirs_ = loss_and_gradient(ours, lambda y: y), loss_and_gradient(theirs, nnx.relu)
    for a, b in zip(ours_, theirs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_norm_of_a_constant_image_is_its_bias():
    norm = GroupNormReLU(8)
    norm.bias[...] = jnp.arange(8.0)
    np.testing.assert_allclose(
        norm(jnp.full((1, 4, 4, 8), 3.0))[0, 0, 0], jnp.arange(8.0), atol=1e-2
    )


def test_halving_undoes_doubling():
    x = normal(2, 4, 6, 3)
    np.testing.assert_array_equal(_halve(_double(x)), x)
    np.testing.assert_array_equal(_double(x), x.repeat(2, axis=1).repeat(2, axis=2))


def test_squares_of_pixels_are_joined_and_parted_to_where_they_were():
    x = normal(2, 4, 6, 1)
    np.testing.assert_array_equal(_part(_join(x, 2), 2), x[..., 0])
    logits = logits_of(small(patch=2), normal(1, 8, 12, 3))
    assert logits.shape == (1, 8, 12)


def test_coarser_logits_have_half_the_edge_each_time():
    model, x = small(width=2, depth=3, patch=2), normal(1, 32, 16, 3)
    scales = nnx.jit(lambda net, x: net.at_all_scales(x))(model, x)
    assert [z.shape for z in scales] == [(1, 32, 16), (1, 8, 4), (1, 4, 2)]
    np.testing.assert_array_equal(scales[0], logits_of(model, x))
