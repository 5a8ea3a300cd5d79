"""What the tests of all experiments use."""

from collections.abc import Callable, Iterator

import jax
import pytest

from experiments.shared import plots, training

# Who ask what the loss doctor says before a run; to the others it is seconds a loss.
PATIENTS = ("test_text", "test_training")


@pytest.fixture(autouse=True, scope="module")
def _few_losses_are_examined(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not request.path.stem.startswith(PATIENTS):
            patch.setattr(training, "examine", lambda loss, kind, console: None)
        yield


# Whose networks optax trains. Its Adam raises a float to the power of an int32, the number of the
# step, which a strict promotion of types refuses (optax 0.2.8, `tree_bias_correction`).
TRAINED = ("test_ships", "test_speakers", "test_tabular", "test_text", "test_uncertainty")


@pytest.fixture(autouse=True, scope="module")
def _optax_promotes_types(request: pytest.FixtureRequest) -> Iterator[None]:
    promotion = "standard" if request.path.stem in TRAINED else "strict"
    with jax.numpy_dtype_promotion(promotion):
        yield


@pytest.fixture(autouse=True, scope="session")
def _pictures_are_small() -> Iterator[None]:
    """Their size is most of the time that they take, and nobody looks at them here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plots.STYLE, "savefig.dpi", 40)
        yield


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed since the last call, in one line, wherever the terminal broke it."""

    def all_of_it() -> str:
        said = capsys.readouterr()
        return " ".join((said.out + said.err).split())

    return all_of_it
