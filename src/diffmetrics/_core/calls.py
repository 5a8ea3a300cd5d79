"""How a public function is called: its keywords, its compilation, meshes, and errors of a call."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ParamSpec, TypedDict, TypeVar, get_args, get_type_hints

import jax
import numpy as np
from jax.sharding import PartitionSpec
from jax.typing import ArrayLike

P = ParamSpec("P")
R = TypeVar("R")
Axis = int | tuple[int, ...] | None

# --- keywords that functions share ----------------------------------------------------------------


class SetOptions(TypedDict, total=False):
    """The keywords of functions that reduce a set; each type is followed by the default."""

    axis: Annotated[Axis, None]
    where: Annotated[ArrayLike | None, None]
    weights: Annotated[ArrayLike | None, None]


class ElementOptions(TypedDict, total=False):
    """The keyword of functions with one value for each element, pair or example."""

    where: Annotated[ArrayLike | None, None]


class ClassOptions(ElementOptions, total=False):
    """The keywords of functions of the scores of classes, with one value for each example."""

    class_axis: Annotated[int, -1]


# --- compilation ----------------------------------------------------------------------------------


def compiled(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """`jax.jit` with the named arguments static, right on any mesh, and with errors that help.

    The signature is kept and spelled out: the type of `jax.jit` would hide every public keyword
    from editors and pyright.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        checked = _of_known_keywords(_on_any_mesh(spelled_out(function)))
        jitted: Any = jax.jit(checked, static_argnames=static)
        return _explained(function, jitted, static)

    return decorate


def explained(*static: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a function that passes its arguments on to a `compiled` one: its errors, in its name."""
    return lambda function: _explained(spelled_out(function), function, static)


def _explained(
    function: Callable[P, R], made: Callable[P, R], static: tuple[str, ...]
) -> Callable[P, R]:
    """`made` of `function`, saying what is wrong with a call; a right one costs nothing more."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return made(*args, **kwargs)
        except (TypeError, ValueError) as error:
            given: dict[str, Any] = {**kwargs}
            lists = {k: tuple(given[k]) for k in static if isinstance(given.get(k), list)}
            if lists:
                again: Any = call
                return again(*args, **given | lists)
            said = _complaint(function, static, args, kwargs, str(error))
            if said is None:
                raise
            raise TypeError(said) from None

    return call


def _of_known_keywords(function: Callable[..., Any]) -> Callable[..., Any]:
    """What Python does for a function that takes no others: ``**options`` would pass any on."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):  # they are of a score
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for unknown in kwargs.keys() - parameters.keys():
            raise TypeError(f"{function.__name__} got an unexpected keyword argument '{unknown}'")
        return function(*args, **kwargs)

    return call


def spelled_out(function: Callable[P, R]) -> Callable[P, R]:
    """Show ``**options: Unpack[Options]`` keyword by keyword, in `help` and in editors."""
    own = inspect.signature(function)
    shown: list[inspect.Parameter] = []
    for p in own.parameters.values():
        if str(p.annotation).startswith("Unpack["):
            (options,) = get_args(get_type_hints(function, include_extras=True)[p.name])
            shown += _keywords(options)
        else:
            shown.append(p)
    documented: Any = function
    documented.__signature__ = own.replace(parameters=shown)
    return function


def _keywords(options: Any) -> list[inspect.Parameter]:
    """Keyword parameters of a `TypedDict`: the types as written, and the defaults."""
    found = []
    for name, hint in get_type_hints(options, include_extras=True).items():
        written = options.__annotations__[name].__forward_arg__
        kind = written.removeprefix("Annotated[").rpartition(",")[0]
        default = get_args(hint)[1]
        keyword = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(name, keyword, default=default, annotation=kind))
    return found


# --- meshes ---------------------------------------------------------------------------------------


def _on_any_mesh(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with its arrays free of the types of a mesh whose axes are Explicit.

    `jax.make_mesh` makes such axes. There every operation must say how its result is sharded, which
    reshapes, sorts and gathers cannot. Inside, the compiler decides, as on Auto axes; a result of
    the shape of an argument, or of its examples, is sharded as that is, and others are replicated.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        places = [i for i, x in enumerate(leaves) if isinstance(x, jax.Array)]
        arrays = [leaves[i] for i in places]
        mesh = next(filter(_is_explicit, (jax.typeof(x).sharding.mesh for x in arrays)), None)
        if mesh is None:
            return function(*args, **kwargs)

        def whole(*given: jax.Array) -> Any:
            filled = dict(zip(places, given, strict=True))
            a, k = jax.tree.unflatten(tree, [filled.get(i, x) for i, x in enumerate(leaves)])
            return function(*a, **k)

        with jax.sharding.use_abstract_mesh(mesh):
            plain = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]
            spread = jax.tree.map(lambda out: _spread(out, arrays), jax.eval_shape(whole, *plain))
            free = jax.sharding.auto_axes(whole, axes=mesh.explicit_axes, out_sharding=spread)
            return free(*arrays)

    return call


def _is_explicit(mesh: Any) -> bool:
    return not mesh.empty and bool(mesh.explicit_axes)


def _spread(out: Any, arrays: list[jax.Array]) -> PartitionSpec:
    """How a result is sharded: as an argument of its shape, or as the examples of one."""
    for of in (lambda x: x, lambda x: x[:-1]):
        for x in arrays:
            if of(x.shape) == out.shape:
                return PartitionSpec(*of(tuple(jax.typeof(x).sharding.spec)))
    return PartitionSpec()


# --- errors of a call -----------------------------------------------------------------------------

# What users of other libraries write, and what does it here.
_WRITTEN_ELSEWHERE: Mapping[str, str] = {
    "axis": "it returns one value for each element or example: call .mean(axis) on the result",
    "weights": "it returns one value for each element or example: (w * loss).sum() / w.sum()",
    "reduction size_average": "nothing is averaged here: call .mean() or .sum() on the result",
    "average": "axis= says what is counted together: for macro keep the axis of classes and take "
    ".mean() of the result, for micro leave axis=None",
    "multioutput": "axis= says what is counted together; take .mean() of the result",
    "from_logits": "losses take logits, and those of sets take activation=; for probabilities "
    "define `identity = lambda p: p` once and pass activation=identity",
    "apply_softmax softmax": "pass activation=jax.nn.softmax to a loss of sets",
    "sigmoid": "activation=jax.nn.sigmoid is the default of losses of sets",
    "apply_nonlin": "pass activation= to a loss of sets",
    "to_onehot_y": "class ids are taken as they are, without a one-hot array",
    "include_background": "leave it out of the mean over classes: loss[1:].mean()",
    "smooth": "pass prior=diffmetrics.Counts(tp=1.0) to a loss of counts, or add it to the counts",
    "smoothing": "pass prior=diffmetrics.Counts(tp=1.0) to a loss of counts, or smooth the labels: "
    "(1 - a) * labels + a / C",
    "label_smoothing": "smooth the labels: (1 - a) * one_hot + a / C, or (1 - a) * labels + a / 2",
    "eps": "0/0 is 0 here; to smooth, pass prior=diffmetrics.Counts(tp=1.0) to a loss of counts",
    "ignore_index": "ids outside [0, C) are void; else pass where=labels != index",
    "mask": "pass where=, which is boolean and selects",
    "sample_weight": "pass weights= to what reduces, and multiply the others",
    "class_weight class_weights": "see weighted_softmax_cross_entropy, or weight the losses of the "
    "classes: (w * loss).sum() / w.sum()",
    "weight": "weights= of what reduces multiply its elements; for classes see "
    "weighted_softmax_cross_entropy",
    "pos_weight": "see weighted_sigmoid_cross_entropy(positive_weight=...)",
    "num_classes": "the number of classes is the length of their axis",
    "task multiclass": "what the labels are is seen from their shape and type",
    "dim": "pass axis=",
    "threshold": "compare first: counts(logits > 0, labels)",
    "y_true y_pred targets predictions": "predictions come first and labels second, both by "
    "position",
}
_ADVICE = {name: said for names, said in _WRITTEN_ELSEWHERE.items() for name in names.split()}


def _complaint(
    function: Callable[..., Any],
    static: tuple[str, ...],
    args: Any,
    kwargs: Mapping[str, Any],
    error: str,
) -> str | None:
    """What is wrong with a call that failed, in words, or None if its arguments are in order."""
    name, parameters = function.__name__, inspect.signature(function).parameters
    named = [n for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD]
    first = [n for n in named if parameters[n].kind is not inspect.Parameter.KEYWORD_ONLY]
    if named[0] == "curve" and len(args) > 1:
        return f"{name} takes a Curve: {name}(curve(scores, labels))"
    if len(args) > len(first):
        later = [n for n in named if n not in first and n not in kwargs]
        hint = f"; write {later[0]}=" if later else ""
        return (
            f"{name} takes {len(first)} arguments by position ({', '.join(first)}), got "
            f"{len(args)}{hint}"
        )
    for unknown in kwargs.keys() - set(named):
        if len(named) == len(parameters) or f"'{unknown}'" in error:
            return f"{name} has no argument {unknown!r}{_instead(unknown, named)}"
    given = [*zip(first, args, strict=False), *kwargs.items()]
    missing = [n for n in named if parameters[n].default is inspect.Parameter.empty]
    missing = [n for n in missing if n not in dict(given)]
    if missing:
        return f"{name} needs {' and '.join(missing)}: it takes {', '.join(named)}."
    twice = [n for n in first[: len(args)] if n in kwargs]
    if twice:
        return f"{name} got {twice[0]} twice, by position and by name."
    for key, value in given:
        whole = key in parameters and parameters[key].annotation == "int"
        of_static = _is_no_integer if whole else _is_no_name
        said = of_static(value) if key in static else _is_no_number(value)
        if said and parameters.get(key) is not None and value is not parameters[key].default:
            return f"{key} must be {said}."
    return None


def _instead(unknown: str, named: list[str]) -> str:
    close = difflib.get_close_matches(unknown, named, 1)
    if unknown in _ADVICE:
        return f": {_ADVICE[unknown]}"
    return f"; did you mean {close[0]}?" if close else f": it takes {', '.join(named)}"


def _is_no_name(value: Any) -> str | None:
    """What is wrong with a static argument."""
    try:
        hash(value)
    except TypeError:
        return f"static (a number, a name, a tuple or a function), got {type(value).__name__}"
    return None


def _is_no_integer(value: Any) -> str | None:
    """What is wrong with a number of bins, of classes, of steps."""
    return None if hasattr(value, "__index__") else f"an integer, got {value!r}"


def _is_no_number(value: Any) -> str | None:
    """What is wrong with an argument that is to hold numbers."""
    leaves = jax.tree.leaves(value, is_leaf=lambda x: x is None)
    for leaf in leaves:
        if isinstance(leaf, jax.Array | bool | int | float | complex):
            continue
        if not isinstance(leaf, np.ndarray | np.generic):
            hint = "" if leaf is None or isinstance(leaf, str) else "; convert it with np.asarray"
            what = "None" if leaf is None else f"{type(leaf).__name__}"
            return f"an array of numbers, got {what}{hint}"
        if leaf.dtype.kind in "OSUmM":
            return f"an array of numbers, got an array of {leaf.dtype}"
    return None
