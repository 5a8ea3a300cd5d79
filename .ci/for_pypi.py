"""Before a release is built: whole links in the README, and the repository in the metadata.

Usage: python .ci/for_pypi.py https://github.com/OWNER/NAME TAG

Links in the repository are relative. On PyPI they must be whole, and lead to the released version.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURES = (".gif", ".jpg", ".png", ".svg")


def whole_links(text: str, home: str, tag: str) -> str:
    """Markdown or HTML whose links to files of the repository begin with `home`."""

    def whole(found: re.Match[str]) -> str:
        before, path = found.groups()
        if not (ROOT / path).exists():  # an address, an anchor, or code that looks like a link
            return found[0]
        view = "raw" if path.endswith(PICTURES) else "blob"
        return f"{before}{home}/{view}/{tag}/{path}"

    return re.sub(r"(\]\(|(?:href|src|srcset)=\")([\w./-]+)", whole, text)


def main(home: str, tag: str) -> None:
    """Change README.md and pyproject.toml in place."""
    readme, project = ROOT / "README.md", ROOT / "pyproject.toml"
    readme.write_text(whole_links(readme.read_text(), home, tag))
    with project.open("a") as metadata:
        metadata.write(
            f'\n[project.urls]\nRepository = "{home}"\nIssues = "{home}/issues"\n'
            f'Changelog = "{home}/blob/{tag}/CHANGELOG.md"\n'
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
