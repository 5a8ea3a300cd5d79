"""What the tests of all experiments use."""

from collections.abc import Callable, Iterator

import pytest

from experiments import training

# Who ask what the loss doctor says before a run; to the others it is seconds a loss.
PATIENTS = ("test_text", "test_training")


@pytest.fixture(autouse=True, scope="module")
def _few_losses_are_examined(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not request.path.stem.startswith(PATIENTS):
            patch.setattr(training, "examine", lambda loss, kind, console: None)
        yield


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed since the last call, in one line, wherever the terminal broke it."""

    def all_of_it() -> str:
        said = capsys.readouterr()
        return " ".join((said.out + said.err).split())

    return all_of_it
