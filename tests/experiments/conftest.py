"""What the tests of all experiments use."""

from collections.abc import Callable

import pytest


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """What was printed since the last call, in one line, wherever the terminal broke it."""

    def all_of_it() -> str:
        said = capsys.readouterr()
        return " ".join((said.out + said.err).split())

    return all_of_it
