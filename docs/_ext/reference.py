"""A page for every public name, generated from its docstring, and links to it wherever it is named.

Names are grouped as the source is: a page for each package, a section for each module.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

import diffmetrics

# Where a name is defined, and what its page in the sidebar is called; sections follow this order.
GROUPS = {
    "diffmetrics._metrics": ("metrics", "Counts, scores, curves and calibration"),
    "diffmetrics._losses.sets": ("set_losses", "Losses of counts and sets"),
    "diffmetrics._losses.elements": ("element_losses", "Losses of each element or example"),
    "diffmetrics._losses.rankings": ("ranking_losses", "Losses of rankings and operating points"),
    "diffmetrics._losses.pairs": ("pair_losses", "Divergences and embeddings"),
    "diffmetrics._losses.distributions": ("distribution_losses", "Predicted distributions"),
    "diffmetrics._decisions": ("decisions", "Thresholds, class frequencies, recalibration"),
    "diffmetrics._training": ("training", "Several losses, batches, class weights"),
    "diffmetrics.diagnose": ("diagnose", "The loss doctor"),
    "diffmetrics.testing": ("testing", "Assertions for your own losses"),
}
# `dm.diagnose.loss(mine)`, as a page writes it: the name is the group.
CALL = re.compile(r"(?:dm\.|diffmetrics\.)?((?:diagnose\.|testing\.)?\w+)(?:\(.*\))?")
ALIAS = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
SHARED = ("logits", "labels", "axis", "where", "weights", "activation", "prior", "class_axis")
FIRST = ("counts", "class_counts", "scores", "matrix_scores", "curves", "curve_points", "overlap")


def public(module: Any) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a module defines, or re-exports by `import x as x`."""
    again = set(re.findall(r"\b(\w+) as \1\b", inspect.getsource(module)))
    for name, value in vars(module).items():
        own = getattr(value, "__module__", "") == module.__name__
        made = inspect.isclass(value) or inspect.isroutine(inspect.unwrap(value))
        if made and not name.startswith("_") and (own or name in again):
            yield name, value


def everything() -> dict[str, dict[str, list[str]]]:
    """Package to module to full names: `_metrics`, then `_metrics.scores`, then `dice`."""
    found: dict[str, dict[str, list[str]]] = {package: {} for package in GROUPS}
    for face in (diffmetrics, diffmetrics.diagnose, diffmetrics.testing):
        for name, value in public(face):
            home = face.__name__ if face is not diffmetrics else value.__module__
            package = next(p for p in GROUPS if home.startswith(p))
            found[package].setdefault(home, []).append(f"{face.__name__}.{name}")
    return found


def resolve(full: str) -> Any:
    """What a full name stands for."""
    module, _, name = full.rpartition(".")
    return getattr(sys.modules[module], name)


def short(full: str) -> str:
    """How a reader writes it, after `import diffmetrics as dm`: `dice_loss`, `diagnose.loss`."""
    return full.removeprefix("diffmetrics.")


def file_of(full: str) -> str:
    """The name of its page: `Counts` and `counts` are one file to some systems."""
    return short(full) + ("_class" if inspect.isclass(resolve(full)) else "")


def sentence(value: Any) -> str:
    """The first sentence of a docstring."""
    first = inspect.cleandoc(value.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.!?]) (?=[A-Z`])", first)[0]


def heading(text: str, under: str) -> list[str]:
    """A reST heading."""
    return [text, under * len(text), ""]


def link(full: str) -> str:
    """A link to a page of a function, as reST."""
    return f":py:obj:`{short(full)} <{full}>`"


def table(names: list[str]) -> list[str]:
    """One line for each name: a link, and the first sentence."""
    rows = [".. list-table::", "   :class: api-index", "   :widths: 30 70", ""]
    for full in names:
        rows += [f"   * - {link(full)}", f"     - {sentence(resolve(full))}"]
    return [*rows, ""]


def mentions(source: Path) -> dict[str, list[str]]:
    """Which guides name which function: a name to pages."""
    found: dict[str, list[str]] = {}
    guides = [p for p in sorted(source.rglob("*.md")) if not {"api", "_build"} & set(p.parts)]
    for page in guides:
        here = "/" + page.relative_to(source).with_suffix("").as_posix()
        for name in set(re.findall(r"(?:\bdm\.|`)(?!dm\.)([\w.]*\w)", page.read_text())):
            found.setdefault(name, []).append(here)
    return found


def function_page(full: str, siblings: list[str], guides: list[str]) -> list[str]:
    """The docstring, and where to read on."""
    value, module = resolve(full), full.rpartition(".")[0]
    lines = [*heading(short(full), "="), f".. currentmodule:: {module}", ""]
    if inspect.isclass(value):
        lines += [f".. autoclass:: {full}", "   :members:"]
        in_docstring = ", ".join(value.__annotations__)
        lines += [f"   :exclude-members: {in_docstring}", ""]
    else:
        lines += [f".. autofunction:: {full}", ""]
    taken = () if inspect.isclass(value) else inspect.signature(value).parameters
    of_examples = "logits" in taken or "labels" in taken  # else `weights` are of members, say
    shared = ", ".join(f"`{name}`" for name in SHARED if of_examples and name in taken)
    near = ", ".join(link(other) for other in siblings if other != full)
    named = ", ".join(f":doc:`{page}`" for page in guides)
    parts = {
        f"What every function means by {shared}: ": shared and ":doc:`/arguments`",
        "Its neighbours: ": near,
        "Pages that use it: ": named,
    }
    lines += [".. rubric:: See also", ""]
    return lines + [f"* {what}{of}" for what, of in parts.items() if of] + [""]


def group_page(title: str, modules: dict[str, list[str]]) -> list[str]:
    """What the modules of a package say of themselves, with their names."""
    lines = heading(title, "=")
    for module, names in modules.items():
        about = inspect.cleandoc(sys.modules[module].__doc__ or "")
        if len(modules) > 1:  # "Lovász losses: the convex closure ...": a heading, and a sentence
            first, _, rest = about.partition("\n\n")
            name, _, said = first.replace("\n", " ").rstrip(".").partition(": ")
            lines += heading(name, "-")
            about = f"{said[:1].upper()}{said[1:]}{'.' if said else ''}\n\n{rest}"
        lines += [*linked(about).splitlines(), "", *table(names)]
    pages = [f"   {file_of(full)}" for names in modules.values() for full in names]
    return [*lines, ".. toctree::", "   :hidden:", "", *pages, ""]


def write(app: Sphinx) -> None:
    """All pages, each only if it changed, so that a second build reads few of them again."""
    out, guides, written = Path(app.srcdir, "api/generated"), mentions(Path(app.srcdir)), set()
    out.mkdir(parents=True, exist_ok=True)

    def page(name: str, lines: list[str]) -> None:
        path, text = out / f"{name}.rst", "\n".join(lines)
        written.add(path)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)

    index: list[str] = []
    for package, modules in everything().items():
        place = [m for f in FIRST for m in modules if m.endswith(f".{f}")]
        modules = {m: modules[m] for m in [*place, *(m for m in modules if m not in place)]}
        file, title = GROUPS[package]
        page(file, group_page(title, modules))
        index += [*heading(title, "-")]
        for names in modules.values():
            index += table(names)
            for full in names:
                page(file_of(full), function_page(full, names, guides.get(short(full), [])))
    (out / "index.txt").write_text("\n".join(index))
    for stale in set(out.glob("*.rst")) - written:
        stale.unlink()


def linked(text: str) -> str:
    """`docs/arguments.md`, as source and help name a page, as a link to it."""
    return re.sub(r"`*\bdocs/([\w/]+)\.md`*", r":doc:`/\1`", text)


def link_pages(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Links to the pages and papers that a docstring names."""
    paper = r"`arXiv:\1 <https://arxiv.org/abs/\1>`__"
    text = linked("\n".join(lines)).replace("**options: `", "keywords: `")  # which are spelled out
    lines[:] = re.sub(r"arXiv:([\d.]+\d)", paper, text).splitlines()


def shorten(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """Defaults as one writes them."""
    if returns:
        returns = ALIAS.sub(r"\1", returns)
    if signature:
        signature = re.sub(
            r"<(?:PjitFunction of <)?function (\w+)[^>]*>>?", r"jax.nn.\1", signature
        )
        signature = ALIAS.sub(r"\1", signature)
        signature = signature.replace("Counts(tp=0.0, fp=0.0, fn=0.0, tn=0.0)", "Counts()")
    return signature, returns


def link_names(app: Sphinx, tree: nodes.document, page: str) -> None:
    """Code that is a public name is a link to its page, in pages and docstrings alike."""
    objects = app.env.domains.python_domain.objects
    for label in tree.findall(nodes.field_name):
        if label.astext() == "Variables":  # what Sphinx calls the attributes of a class
            label[:] = [nodes.Text("Attributes")]
    for code in list(tree.findall(nodes.literal)):
        parent = code.parent
        if isinstance(parent, (nodes.reference, nodes.title)) or parent.parent is None:
            continue
        called = CALL.fullmatch(code.astext())
        full = f"diffmetrics.{called[1]}" if called else ""
        entry = objects.get(full)
        if entry is None or entry.docname == page:
            continue
        made = make_refnode(app.builder, page, entry.docname, entry.node_id, code.deepcopy(), full)
        parent.replace(code, made)


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", link_pages, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", shorten)
    app.connect("doctree-resolved", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
