"""The site: `pip install -e '.[docs]' && sphinx-build -W docs docs/_build`."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "diffmetrics"
author = "The diffmetrics authors"
copyright = author
version = release = metadata.version("jax-diffmetrics")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "reference",  # docs/_ext: the pages of functions, and links to them
    "searched",  # docs/_ext: what the search finds first
]
exclude_patterns = ["_build", "_ext"]

# Markdown as on GitHub, with formulas and links to headings.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

# Docstrings.
default_role = "literal"  # `Counts` is code, and the extension makes a link of it
autodoc_typehints = "signature"
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Axis", "Activation", "Loss", "Parts")}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_preprocess_types = False
maximum_signature_line_length = 80
add_module_names = False
toc_object_entries = False

html_theme = "sphinx_book_theme"
html_title = f"diffmetrics {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_sidebars = {"**": ["navbar-logo.html", "sbt-sidebar-nav.html"]}  # the search is above
html_theme_options = {
    "home_page_in_toc": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navigation_with_keys": False,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_copy_empty_lines = True
