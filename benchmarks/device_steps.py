"""The training steps of the experiments on this device, against the same networks in PyTorch.

First the two are shown to be the same network: with copied weights, in float32, their predictions
agree. Then blocks of steps alternate; within a block nobody waits for the device, as nobody does in
a training.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib
import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks import measure, run, steps, torch_peers
from benchmarks.measure import Patience, Result, Runner
from benchmarks.peers import INSTALL
from benchmarks.run import Timing
from benchmarks.steps import Training
from experiments.ships import experiment as of_ships, pipeline
from experiments.speakers import experiment as of_speakers
from experiments.text import experiment as of_text

SIZES: dict[str, Callable[..., Any]] = {
    "ships": lambda quick: steps.ships_settings("float32", quick=quick),
    "text": lambda quick: steps.text_settings(quick=quick),
    "speakers": lambda quick: steps.speakers_settings(quick=quick),
}


@dataclasses.dataclass(frozen=True)
class StepRow:
    """One experiment's step beside PyTorch's."""

    experiment: str
    dtype: str
    examples: int
    """In a batch."""
    parameters: int
    """That are trained."""
    ours: Timing
    """Of one step."""
    peers: Mapping[str, Timing]
    unequal: Mapping[str, str]
    """Peers that were not timed, and why."""


def compare(
    name: str,
    dtype: str,
    peers: tuple[str, ...],
    patience: Patience,
    *,
    block: int,
    quick: bool = False,
    told: Callable[[str], None] = lambda _: None,
) -> StepRow:
    """Time `block` steps at once of one experiment, and of its twins that are equal.

    Args:
      name: of the experiment.
      dtype: "float32" or "bfloat16".
      peers: of "torch" and "torch.compile".
      patience: how often blocks are run.
      block: steps in a block.
      quick: whether the network is small.
      told: what is called with a word on where it stands.
    """
    told(f"step of {name}, {dtype}: compile")
    made = steps.STEPS[name](dtype, quick=quick)
    count = sum(x.size for x in jax.tree.leaves(made.state["params"]))
    absent = {peer: reason for peer in peers if (reason := _absent(made))}
    equal, unequal = [], dict(absent)
    for peer in peers if not absent else ():
        told(f"step of {name}, {dtype}: {peer}")
        try:
            runner = _theirs(peer, name, made, dtype, block, quick=quick)
        except Exception as error:  # whatever it raises is its result
            reason = f"{type(error).__name__}: {str(error).split(chr(10))[0]}"
            unequal[peer] = reason
            continue
        equal.append(runner)
    ours = _ours(made, block)  # last, because a step takes its state for its own
    del made
    everyone = [ours, *equal]
    for runner in everyone:
        measure.warm_up(runner, patience)
    measure.in_turns(everyone)  # seconds, which time that is over may have
    timed = {r.name: _of_one(run._timing(r), block) for r in everyone}
    torch_peers.forget()
    gc.collect()
    return StepRow(
        name, dtype, SIZES[name](quick).batch_size, count, timed.pop("ours"), timed, unequal
    )


def _of_one(timing: Timing, block: int) -> Timing:
    middle, low, high = (ms / block for ms in timing.ms)
    return dataclasses.replace(timing, ms=(middle, low, high))


def _absent(made: Training) -> str | None:
    """Why there is no PyTorch to compare with."""
    if not importlib.util.find_spec("torch"):
        return f"not installed ({INSTALL['torch']})"
    device = next(iter(jax.tree.leaves(made.batch)[0].devices()))
    return torch_peers.usable(device)


def _nothing() -> Result:
    raise NotImplementedError("a step has no value to compare")


def _ours(made: Training, block: int) -> Runner:
    state = made.state

    def steps_of(count: int) -> None:
        nonlocal state
        loss = None
        for _ in range(count):
            state, loss = made.step(state, made.batch)
        jax.block_until_ready(loss)

    start = time.perf_counter()
    steps_of(1)
    compile_s = time.perf_counter() - start
    return Runner("ours", lambda: steps_of(block), _nothing, compile_s, primed=False)


def _theirs(peer: str, name: str, made: Training, dtype: str, block: int, *, quick: bool) -> Runner:
    """A runner of the twin. Raises `ValueError` if it is another network."""
    torch: Any = importlib.import_module("torch")
    torch_steps = importlib.import_module("benchmarks.torch_steps")
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32
    torch.backends.cudnn.benchmark = True
    cuda = next(iter(made.batch.values())).devices().pop().platform == "gpu"
    recipe = torch_steps.Recipe("cuda" if cuda else "cpu", dtype, peer == "torch.compile")
    twin = torch_steps.TWINS[name](made, recipe, quick=quick)
    with torch.no_grad():
        theirs = twin.predict().cpu().numpy()
    if reason := measure.difference(
        _result(predict(name, made, quick=quick)), _result(theirs), "float32"
    ):
        raise ValueError(f"another network: {reason}")

    def steps_of(count: int) -> None:
        for _ in range(count):
            twin.step()
        if cuda:
            torch.cuda.synchronize()

    start = time.perf_counter()
    steps_of(1)
    compile_s = time.perf_counter() - start
    return Runner(peer, lambda: steps_of(block), _nothing, compile_s, primed=False)


def _result(prediction: Any) -> Result:
    """A prediction as what is compared: its length, and itself."""
    found = np.asarray(prediction, np.float32)
    return float(np.linalg.norm(found)), found


def predict(name: str, made: Training, *, quick: bool) -> jax.Array:
    """What the network makes of its batch in float32, without dropout."""
    state, batch = made.state, made.batch
    with jax.default_matmul_precision(steps.PRECISION["float32"]):
        if name == "ships":
            graph, _ = of_ships.initialize(SIZES[name](quick), 0)
            network = nnx.merge(graph, nnx.State(state["params"]))
            return nnx.jit(lambda net, x: net(pipeline.normalize(x)))(network, batch["image"])
        if name == "text":
            tables = state["frozen"]["static"]
            model, _ = of_text.initialize(SIZES[name](quick), tables, range(1))
            return model.forward(state["params"], state["frozen"], batch["ids"])[0]
        graph, _ = of_speakers.initialize(SIZES[name](quick), 0, state["scale"])
        return of_speakers.make_embed(graph, state)(batch["segments"])
