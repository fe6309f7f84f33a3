"""The types that options may have, read from source without importing it: most jobs need torch, and a mistake in a word
is told before torch is loaded.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from .options import Options

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = __package__.partition(".")[0]
_NUMBERS = ("bool", "int", "float")

#: The members of a union, as they are written.
Kinds = frozenset[str]


def read_kinds(run: str, options: Options) -> dict[str, Kinds]:
    """The types of a command's options by name: of its function's parameters, and of its groups' classes.

    Args:
        run: the function, as :class:`~effnas.commandline.commands.Command` has it.
        options: whose groups name classes; one that is not of this package is left out.
    """
    found = dict(read_annotations(f"{_PACKAGE}.{run}"))
    for group in options.groups:
        found |= {f"{group.name}.{name}": kinds for name, kinds in read_annotations(group.target).items()}
    return found


def number_kind(kinds: Kinds) -> str | None:
    """``bool``, ``int`` or ``float`` where the option may be nothing else, but for None."""
    (kind, *others) = sorted(kinds - {"None"}) or [""]
    return kind if kind in _NUMBERS and not others else None


def is_text(kinds: Kinds) -> bool:
    """Whether whatever is typed is text: a name, a path. An object that text stands for is none that can be typed."""
    others = kinds - {"str", "Path", "None"}
    return "str" in kinds and not any(kind in (*_NUMBERS, "Any") or "[" in kind for kind in others)


@cache
def read_annotations(target: str) -> Mapping[str, Kinds]:
    """The parameters of a function or a class of this package, by name; empty for what cannot be found.

    Args:
        target: dotted path; a name that a module only imports is looked for where it comes from.
    """
    path, _, name = target.rpartition(".")
    module = _parse(path)
    if module is None:
        return {}
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return _parameters(node, path, module)
        if isinstance(node, ast.ClassDef) and node.name == name:
            return _constructor(node, path, module)
    origin = _imported(name, path, module)
    return read_annotations(origin) if origin else {}


def _constructor(node: ast.ClassDef, path: str, module: ast.Module) -> dict[str, Kinds]:
    """What a class is made of: the parameters of ``__init__``, or the fields of a data class and of its bases."""
    made = [part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    if made:
        return _parameters(made[0], path, module)
    found: dict[str, Kinds] = {}
    for base in (base.id for base in node.bases if isinstance(base, ast.Name) and base.id != node.name):
        found |= read_annotations(_imported(base, path, module) or f"{path}.{base}")
    return found | {_name(part): _kinds(part.annotation) for part in node.body if isinstance(part, ast.AnnAssign)}


def _name(field: ast.AnnAssign) -> str:
    return field.target.id if isinstance(field.target, ast.Name) else ""


def _parameters(function: ast.FunctionDef, path: str, module: ast.Module) -> dict[str, Kinds]:
    arguments = function.args
    found = {a.arg: _kinds(a.annotation) for a in [*arguments.args, *arguments.kwonlyargs] if a.annotation is not None}
    rest = arguments.kwarg.annotation if arguments.kwarg is not None else None
    if isinstance(rest, ast.Subscript) and isinstance(rest.slice, ast.Name):  # Unpack[NAME]
        found |= read_annotations(_imported(rest.slice.id, path, module) or f"{path}.{rest.slice.id}")
    return found


def _kinds(annotation: ast.expr | None) -> Kinds:
    if isinstance(annotation, ast.BinOp):
        return _kinds(annotation.left) | _kinds(annotation.right)
    return frozenset([ast.unparse(annotation)] if annotation is not None else [])


def _imported(name: str, path: str, module: ast.Module) -> str | None:
    """Where a name of a module is imported from, as a dotted path."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and any(name == (alias.asname or alias.name) for alias in node.names):
            inside = (_file(path) or Path()).name == "__init__.py"
            parts = path.split(".")
            above = ".".join(parts[: len(parts) - node.level + inside]) if node.level else ""
            alias = next(alias for alias in node.names if name == (alias.asname or alias.name))
            return ".".join(part for part in (above, node.module, alias.name) if part)
    return None


def _file(path: str) -> Path | None:
    package, *parts = path.split(".")
    place = _ROOT.joinpath(*parts)
    files = [place.with_suffix(".py"), place / "__init__.py"] if package == _PACKAGE and parts else []
    return next((file for file in files if file.is_file()), None)


def _parse(path: str) -> ast.Module | None:
    file = _file(path)
    return ast.parse(file.read_text(encoding="utf-8")) if file is not None else None
