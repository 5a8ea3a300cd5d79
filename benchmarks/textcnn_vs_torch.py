"""A training step of the two-channel TextCNN against the same network in PyTorch, on the CPU.

    python -m benchmarks.textcnn_vs_torch

Both get two threads, float32, 50 texts of 24 words, 9,000 words of 100 numbers and Adam. Ours is
the experiment's own step, with one network and with five side by side. The two are first shown to
be the same network: with copied weights their logits agree. Then blocks of steps alternate, so that
a busy machine slows both alike, and what counts is the median of the ratios of neighbouring blocks.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

from experiments.text.experiment import Settings, initialize
from experiments.text.losses import make_task

try:
    import torch  # pyright: ignore[reportMissingImports]
    from torch.nn import functional  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise SystemExit("benchmarks.textcnn_vs_torch compares with PyTorch: pip install torch") from (
        error
    )

from benchmarks import torch_networks

THREADS, BLOCKS, STEPS = 2, 9, 10
WORDS, LENGTH, TEXTS, SIDE_BY_SIDE = 9000, 24, 50, 5
SETTINGS = Settings(variant="multichannel", batch_size=TEXTS)


def seconds(run: Callable[[], None], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def main() -> None:
    torch.set_num_threads(THREADS)
    if len(os.sched_getaffinity(0)) != THREADS:
        print(f"note: JAX uses all cores given to it; start this with taskset to give it {THREADS}")
    rng = np.random.default_rng(0)
    lengths = rng.integers(LENGTH // 2, LENGTH + 1, (SIDE_BY_SIDE, TEXTS, 1))
    # Words are as frequent as in language.
    ids = np.minimum(2 + rng.zipf(1.3, (SIDE_BY_SIDE, TEXTS, LENGTH)), WORDS - 1)
    ids = np.where(np.arange(LENGTH) < lengths, ids, 0).astype(np.int32)
    labels = (rng.random((SIDE_BY_SIDE, TEXTS)) < 0.25).astype(np.float32)
    tables = rng.uniform(-0.25, 0.25, (SIDE_BY_SIDE, WORDS, SETTINGS.size)).astype(np.float32)
    tables[:, 0] = 0.0

    sizes = (1, SIDE_BY_SIDE)
    runs, states, batches = {}, {}, {}
    for many in sizes:
        model, states[many] = initialize(SETTINGS, tables[:many], range(many), steps=10_000)
        batches[many] = jax.device_put({"ids": ids[:many], "labels": labels[:many]})
        runs[many] = model
    twin = torch_networks.TextCNN(
        WORDS, SETTINGS.size, SETTINGS.widths, SETTINGS.maps, SETTINGS.dropout
    )
    torch_networks.copy_textcnn(states[1]["params"], states[1]["frozen"], twin)
    x, y = torch.from_numpy(ids[0].astype(np.int64)), torch.from_numpy(labels[0])
    with torch.no_grad():
        twin.eval()
        ours = runs[1].forward(states[1]["params"], states[1]["frozen"], ids[:1])
        np.testing.assert_allclose(ours[0], twin(x).numpy(), atol=1e-4)
        twin.train()
    optimiser = torch.optim.Adam((p for p in twin.parameters() if p.requires_grad), 2e-3)

    def theirs() -> None:
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(twin(x), y).backward()
        optimiser.step()
        with torch.no_grad():
            norm = twin.head.weight.norm()
            if norm > SETTINGS.max_norm:
                twin.head.weight.mul_(SETTINGS.max_norm / norm)

    def step(many: int) -> Callable[[], None]:
        update = runs[many].update_with("cross-entropy", make_task(np.full(many, 0.25), None, 1.0))

        def run() -> None:
            states[many], loss = update(states[many], batches[many])
            jax.block_until_ready(loss)

        return run

    everyone = [*(step(many) for many in sizes), theirs]
    for run in everyone:
        run()
    blocks = [[seconds(run, STEPS) for run in everyone] for _ in range(BLOCKS)]
    print(f"jax {jax.__version__}, torch {torch.__version__}, logits equal; texts/s in training")
    columns = list(zip(*blocks, strict=True))
    for many, column in zip(sizes, columns, strict=False):
        print(f"jax, {many} network(s) {many * TEXTS / statistics.median(column):8.0f}")
    print(f"torch             {TEXTS / statistics.median(columns[-1]):8.0f}")
    for many, column in zip(sizes, columns, strict=False):
        ratios = sorted(many * t / j for j, t in zip(column, columns[-1], strict=True))
        print(
            f"jax / torch, {many} network(s): {statistics.median(ratios):.2f} times as many texts, "
            f"from {ratios[0]:.2f} to {ratios[-1]:.2f}"
        )


if __name__ == "__main__":
    main()
