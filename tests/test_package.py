"""What is said of a version is said alike in every file, and the README can be shown elsewhere."""

import re
import runpy
import tomllib

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def released():
    """The newest version of the changelog that has a date, and that date."""
    headings = (ROOT / "CHANGELOG.md").read_text()
    return re.findall(r"^## (\S+), (\d{4}-\d\d-\d\d)$", headings, re.MULTILINE)[0]


def test_the_newest_release_of_the_changelog_is_the_version_of_the_package():
    assert released()[0] == PROJECT["version"]


def test_the_citation_is_of_the_newest_release():
    citation = (ROOT / "CITATION.cff").read_text()
    for line in ("version: {0}", 'date-released: "{1}"', f"license: {PROJECT['license']}"):
        assert line.format(*released()) in citation.splitlines()


def test_types_are_announced():
    assert (ROOT / "src/diffmetrics/py.typed").exists()


def test_links_of_a_released_readme_are_whole():
    whole_links = runpy.run_path(str(ROOT / ".ci/for_pypi.py"))["whole_links"]
    home = "https://github.com/someone/diffmetrics"
    text = "![a](docs/images/ships.png) [b](docs/zeros.md#x) [c](#d) [e](https://f) g['h'](labels)"
    assert whole_links(text, home, "v1") == (
        f"![a]({home}/raw/v1/docs/images/ships.png) [b]({home}/blob/v1/docs/zeros.md#x) "
        "[c](#d) [e](https://f) g['h'](labels)"
    )
    readme = whole_links((ROOT / "README.md").read_text(), home, "v1")
    relative = re.findall(r"\]\((?!https:|#)[\w./-]+", readme)
    assert [link for link in relative if "/" in link or link.endswith(".md")] == []
