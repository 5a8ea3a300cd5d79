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
    from torch import nn  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise SystemExit("benchmarks.unet_vs_torch compares with PyTorch: pip install torch") from error

THREADS, BLOCKS, STEPS = 2, 9, 3
WIDTHS = [16, 32, 64, 128, 256]


class TorchBlock(nn.Module):
    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.norm2 = (nn.GroupNorm(channels // 8, channels) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(x)), inplace=True)


class TorchUNet(nn.Module):
    def __init__(self):
        super().__init__()
        pairs = zip([3, *WIDTHS], WIDTHS, strict=False)
        self.encoder = nn.ModuleList(TorchBlock(i, o) for i, o in pairs)
        self.narrow = nn.ModuleList(nn.Conv2d(2 * o, o, 1) for o in WIDTHS[:-1])
        self.decoder = nn.ModuleList(TorchBlock(2 * o, o) for o in WIDTHS[:-1])
        self.head = nn.Conv2d(WIDTHS[0], 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder[0](x)
        skips = []
        for block in list(self.encoder)[1:]:
            skips.append(x)
            x = block(functional.max_pool2d(x, 2))
        for level in reversed(range(len(self.decoder))):
            up = functional.interpolate(self.narrow[level](x), scale_factor=2)
            x = self.decoder[level](torch.cat([skips[level], up], dim=1))
        return self.head(x)[:, 0]


def copy_weights(model: UNet, twin: TorchUNet) -> None:
    """Copy by position; the parameters' names and layouts differ."""

    def put(parameter: torch.Tensor, value) -> None:
        array = np.array(value[...])
        if parameter.ndim == 4:  # a 1x1 convolution there is a linear layer here
            array = (array if array.ndim == 4 else array[None, None]).transpose(3, 2, 0, 1)
        parameter.copy_(torch.from_numpy(array.copy()))

    with torch.no_grad():
        ours, theirs = [*model.encoder, *model.decoder], [*twin.encoder, *twin.decoder]
        for block, other in zip(ours, theirs, strict=True):
            put(other.conv1.weight, block.conv1.kernel)
            put(other.conv2.weight, block.conv2.kernel)
            for norm, twin_norm in ((block.norm1, other.norm1), (block.norm2, other.norm2)):
                put(twin_norm.weight, norm.scale)
                put(twin_norm.bias, norm.bias)
        for linear, conv in zip(
            [*model.narrow, model.head], [*twin.narrow, twin.head], strict=True
        ):
            put(conv.weight, linear.kernel)
            put(conv.bias, linear.bias)


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

    model, twin = UNet(rngs=nnx.Rngs(0)), TorchUNet()
    copy_weights(model, twin)
    twin = twin.to(memory_format=torch.channels_last)
    graphdef, params = nnx.split(model, nnx.Param)
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
