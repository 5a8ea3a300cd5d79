"""Every line of docs/coming_from/ computes what the library beside it was recorded to compute."""

import functools
import json
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from tests import ROOT

RECORDED = json.loads((ROOT / "tests/recorded/parity.json").read_text())
CASES = {(case["call"], case["input"]): case for case in RECORDED["cases"]}
PAGES = {page.stem: page.read_text() for page in sorted((ROOT / "docs/coming_from").glob("*.md"))}


class Row(NamedTuple):
    """Of a table there: | `their call` | input | `our line` |."""

    page: str
    call: str
    input: str
    line: str

    @property
    def is_loss(self) -> bool:
        return "gradient" in CASES.get((self.call, self.input), {})

    @property
    def script(self) -> tuple[str, ...]:
        """The line, after those that say what its names mean."""
        lines = [self.line]
        for name, line, inputs in reversed(NAMES[self.page]):
            if self.input in inputs.split(", ") and re.search(rf"\b{name}\b", " ".join(lines)):
                lines.append(f"{name} = {line}")
        return tuple(reversed(lines))


ROW = re.compile(r"^\| `([^`]+)` \| (\w+) \| `([^`]+)` \|$", re.MULTILINE)
ROWS = [Row(page, *row) for page, text in PAGES.items() for row in ROW.findall(text)]
ROWS.sort(key=lambda row: row.input)  # so that few processes need the same program

# What a page calls something, and of which inputs: c = dm.counts(z > 0, y)  # elements, binary
NAME = re.compile(r"^(\w+) = (.+?)  +# (\w+(?:, \w+)*)$", re.MULTILINE)
NAMES = {page: NAME.findall(text) for page, text in PAGES.items()}

PACKAGES = {  # the first word of a call, and what was installed for it
    "keras": "keras",
    "kornia": "kornia",
    "monai": "monai",
    "optax": "optax",
    "rax": "rax",
    "sklearn": "scikit-learn",
    "smp": "segmentation-models-pytorch",
    "tmf": "torchmetrics",
    "torch": "torch",
}


def run(script: tuple[str, ...], z: jax.Array, y: jax.Array, meant: dict[Any, Any]) -> Any:
    """What a reader of a page gets; `meant` holds what other lines have computed on the way."""
    known = {"dm": dm, "jax": jax, "jnp": jnp, "Counts": dm.Counts, "softmax": jax.nn.softmax}
    known |= {"z": z, "y": y}
    for end, line in enumerate(script[:-1], 1):
        name, _, value = line.partition(" = ")
        if script[:end] not in meant:
            meant[script[:end]] = eval(value, known)
        known[name] = meant[script[:end]]
    return eval(script[-1], known)


@functools.cache
def ours(name: str) -> dict[tuple[bool, tuple[str, ...]], Any]:
    """All that the lines compute of one input, in one program: many would take twice as long.

    By what is computed, because what many libraries have is on many pages. Losses come with their
    gradients, and in place of what a line raises stands the exception.
    """
    given = RECORDED["inputs"][name]
    logits, labels = jnp.asarray(given["logits"], jnp.float32), jnp.asarray(given["labels"])
    scripts = dict.fromkeys((row.is_loss, row.script) for row in ROWS if row.input == name)
    failed = {}

    def all_of_them(z: jax.Array, y: jax.Array) -> dict[int, Any]:
        found, meant = {}, {}
        for number, (is_loss, script) in enumerate(scripts):
            loss = jax.value_and_grad(lambda z, script=script: run(script, z, y, {}))
            try:
                found[number] = loss(z) if is_loss else run(script, z, y, meant)
            except Exception as error:  # of this line alone
                failed[is_loss, script] = error
        return found

    # The lines are as people write them, without regard for types and ranks.
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.debug_nans(False),
    ):
        found = jax.jit(all_of_them)(logits, labels)
    return {key: found[number] for number, key in enumerate(scripts) if number in found} | failed


def test_every_recorded_case_has_a_line_and_every_line_a_recorded_case():
    assert {(row.call, row.input) for row in ROWS} == set(CASES)
    assert len(ROWS) == len(CASES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.call}-{row.input}")
def test_the_documented_line_reproduces_what_was_recorded(row):
    case, found = CASES[row.call, row.input], ours(row.input)[row.is_loss, row.script]
    if isinstance(found, Exception):
        raise found
    if row.is_loss:
        value, gradient = found
        recorded = np.asarray(case["gradient"])
        np.testing.assert_allclose(value, case["value"], rtol=1e-5)
        # An element whose terms nearly cancel is held to the scale of the whole gradient.
        np.testing.assert_allclose(gradient, recorded, rtol=1e-5, atol=1e-5 * abs(recorded).max())
    elif isinstance(found, tuple | list):
        for value, recorded in zip(found, case["value"], strict=True):
            np.testing.assert_allclose(value, recorded, rtol=1e-5, atol=1e-7)
    else:
        np.testing.assert_allclose(found, case["value"], rtol=1e-5, atol=1e-7)


def test_a_page_names_the_versions_that_were_recorded():
    for page, text in PAGES.items():
        for word in {row.call.split(".")[0] for row in ROWS if row.page == page}:
            package = PACKAGES[word]
            version = f"{package} {RECORDED['versions'][package]}"
            assert version in text.replace("`", ""), (page, version)
