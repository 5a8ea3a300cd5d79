"""A training step of the U-Net against the same network in PyTorch eager, on the CPU.

    python -m benchmarks.unet_vs_torch

Both get two threads, float32 and 8 x 128 x 128 images; ours as the experiment runs it, with the
batch spread over two CPU devices, and on one device for comparison. The two are first shown to be
the same network: with copied weights their logits agree. Then blocks of steps alternate, so that a
busy machine slows both alike, and what counts is the median of the ratios of neighbouring blocks.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from experiments.ships.unet import UNet

try:
    import torch  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise SystemExit("benchmarks.unet_vs_torch compares with PyTorch: pip install torch") from error

from benchmarks import torch_networks

THREADS, BLOCKS, STEPS = 2, 9, 3


def seconds(run: Callable[[], None], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def main() -> None:
    torch.set_num_threads(THREADS)
    jax.config.update("jax_num_cpu_devices", THREADS)
    if len(os.sched_getaffinity(0)) != THREADS:
        print(f"note: JAX uses all cores given to it; start this with taskset to give it {THREADS}")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 128, 128, 3)).astype(np.float32)
    masks = (rng.random((8, 128, 128)) < 0.01).astype(np.float32)

    graphdef, params = nnx.split(UNet(rngs=nnx.Rngs(0)), nnx.Param)
    twin = torch_networks.UNet()
    torch_networks.copy_unet(nnx.to_pure_dict(params), twin)
    twin = twin.to(memory_format=torch.channels_last)
    forward = jax.jit(lambda params, images: nnx.merge(graphdef, params)(images))
    x = torch.from_numpy(images).permute(0, 3, 1, 2)  # a view of NHWC is channels_last
    y = torch.from_numpy(masks)
    with torch.no_grad():
        np.testing.assert_allclose(forward(params, images), twin(x).numpy(), atol=1e-3)
    count = sum(p.size for p in jax.tree.leaves(params))
    assert count == sum(p.numel() for p in twin.parameters())

    def loss(params, images, masks):
        p = jax.nn.sigmoid(nnx.merge(graphdef, params)(images))
        return 1 - 2 * (p * masks).sum() / (p.sum() + masks.sum())

    transform = optax.adam(1e-3)

    def step(state, images, masks):
        params, moments = state
        gradient = jax.grad(loss)(params, images, masks)
        updates, moments = transform.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments

    state = (params, transform.init(params))
    start = time.perf_counter()
    compiled = jax.jit(step).lower(state, images, masks).compile()
    compile_seconds = time.perf_counter() - start
    single = (compiled, state, jnp.asarray(images), jnp.asarray(masks))

    mesh = jax.sharding.Mesh(np.array(jax.devices()[:THREADS]), ("batch",))
    everywhere, spread = (NamedSharding(mesh, PartitionSpec(*name)) for name in ([], ["batch"]))
    state = jax.device_put(state, everywhere)
    images_, masks_ = jax.device_put((images, masks), spread)
    compiled = jax.jit(step).lower(state, images_, masks_).compile()
    optimiser = torch.optim.Adam(twin.parameters(), 1e-3)

    def ours() -> None:
        nonlocal state
        state = jax.block_until_ready(compiled(state, images_, masks_))

    def alone() -> None:
        jax.block_until_ready(single[0](*single[1:]))

    def theirs() -> None:
        optimiser.zero_grad()
        p = torch.sigmoid(twin(x))
        (1 - 2 * (p * y).sum() / (p.sum() + y.sum())).backward()
        optimiser.step()

    large = jnp.asarray(rng.normal(size=(1, 768, 768, 3)), jnp.float32)
    whole = forward.lower(params, large).compile()
    everyone = (ours, alone, theirs)
    for run in everyone:
        run()
    blocks = [tuple(seconds(run, STEPS) for run in everyone) for _ in range(BLOCKS)]
    image = statistics.median(
        seconds(lambda: jax.block_until_ready(whole(params, large)), 1) for _ in range(5)
    )

    ours_ms, alone_ms, theirs_ms = (
        1e3 * statistics.median(column) for column in zip(*blocks, strict=True)
    )
    ratios = sorted(a / c for a, _, c in blocks)
    print(f"jax {jax.__version__}, torch {torch.__version__}, {count:,} parameters, logits equal")
    print(f"jax step    {ours_ms:7.1f} ms, {compile_seconds:.1f} s to compile")
    print(f"  one device{alone_ms:7.1f} ms")
    print(f"torch step  {theirs_ms:7.1f} ms")
    print(f"jax / torch {statistics.median(ratios):7.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")
    print(f"jax, whole 768 x 768 image forward {1e3 * image:.1f} ms")


if __name__ == "__main__":
    main()
