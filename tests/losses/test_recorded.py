"""Every line of docs/parity.md computes what the library beside it was recorded to compute."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffmetrics as dm
from tests import ROOT

RECORDED = json.loads((ROOT / "tests/recorded/parity.json").read_text())
CASES = {(case["call"], case["input"]): case for case in RECORDED["cases"]}

# A row of a table there: | `their call` | input | `our line` |
ROW = re.compile(r"^\| `(?P<call>[^`]+)` \| (?P<input>\w+) \| `(?P<line>[^`]+)` \|$", re.MULTILINE)
PAGE = (ROOT / "docs/parity.md").read_text()
LINES = {(row["call"], row["input"]): row["line"] for row in ROW.finditer(PAGE)}


def test_every_recorded_case_has_a_line_and_every_line_a_recorded_case():
    assert set(LINES) == set(CASES)


@pytest.mark.parametrize(("call", "name"), LINES)
def test_the_documented_line_reproduces_value_and_gradient(call, name):
    example, case = RECORDED["inputs"][name], CASES[call, name]
    labels = jnp.asarray(example["labels"])

    def ours(logits):
        names = {"dm": dm, "jax": jax, "jnp": jnp, "Counts": dm.Counts, "z": logits, "y": labels}
        names |= {"softmax": jax.nn.softmax}
        if logits.ndim > labels.ndim > 1:
            names["seen"] = jax.nn.one_hot(labels, logits.shape[-1]).any((1, 2))
        return eval(LINES[call, name], names)

    logits = jnp.asarray(example["logits"], jnp.float32)
    # The lines are as people write them, without regard for types and ranks.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        value, gradient = jax.jit(jax.value_and_grad(ours))(logits)
    np.testing.assert_allclose(value, case["value"], rtol=1e-5)
    recorded = np.asarray(case["gradient"])
    # An element whose terms nearly cancel is held to the scale of the whole gradient.
    np.testing.assert_allclose(gradient, recorded, rtol=1e-5, atol=1e-5 * abs(recorded).max())


def test_the_page_names_the_versions_that_were_recorded():
    for package, version in RECORDED["versions"].items():
        assert f"{package} {version}" in PAGE.replace("`", "")
