"""What a record was made of: digests of data and of sources, and the files of this repository behind a module.

Sources are hashed as ``ast.unparse`` of the tree without docstrings, so that a comment, a blank line or a sentence of
documentation makes no record stale (``ast.dump`` would differ between Python versions).
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("reference_impls", "benchmarks")


def canonical(data: Any) -> str:
    """JSON with sorted keys, no blanks and shortest-round-trip floats; raises ValueError on NaN and infinities."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(data: Any) -> str:
    """sha256 (hex) of the canonical JSON of `data`."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _documented(node: ast.AST) -> bool:
    body = getattr(node, "body", None)
    return (
        isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and bool(body)
        and isinstance(body[0], ast.Expr)
        and isinstance(body[0].value, ast.Constant)
        and isinstance(body[0].value.value, str)
    )


def code_of(source: str) -> str:
    """The source without comments, layout and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if _documented(node):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def file_of(module: str, root: Path = ROOT) -> Path | None:
    """The file of a module of this repository; None for any other module."""
    if module.split(".", 1)[0] not in PACKAGES:
        return None
    stem = root.joinpath(*module.split("."))
    return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)


def _imported(tree: ast.Module, module: str, package: bool) -> Iterable[str]:
    """Names that the tree imports, absolute; `from a import b` gives a and a.b (b may be a module)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: None if package and node.level == 1 else -(node.level - package)]
                base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{name.name}" for name in node.names)


@cache
def _source(module: str, root: Path) -> tuple[str, tuple[str, ...]]:
    """(sha256 of the module's code, modules of this repository that it imports, its packages included)."""
    path = file_of(module, root)
    if path is None:
        raise ModuleNotFoundError(f"module: {module!r} is no file under {root}, expected one of {', '.join(PACKAGES)}")
    source = path.read_text()
    names = set(_imported(ast.parse(source), module, path.name == "__init__.py"))
    names |= {".".join(name.split(".")[:depth]) for name in {*names, module} for depth in range(1, name.count(".") + 1)}
    found = sorted(name for name in names if name != module and file_of(name, root))
    return hashlib.sha256(code_of(source).encode()).hexdigest(), tuple(found)


@cache
def modules_behind(module: str, root: Path = ROOT) -> tuple[str, ...]:
    """The module and every module of this repository that it imports, directly or not, read from syntax trees.

    Imports inside functions count. A module that is looked up by a computed name does not: a role of its own names it.
    """
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_source(name, root)[1])
    return tuple(sorted(found))


@cache
def sources_digest(module: str, root: Path = ROOT) -> str:
    """One sha256 for a module and all files of this repository behind it."""
    return digest({name: _source(name, root)[0] for name in modules_behind(module, root)})


@cache
def module_digest(module: str, root: Path = ROOT) -> str:
    """sha256 of the code of one module alone."""
    return _source(module, root)[0]


def merged(parts: Mapping[str, str]) -> str:
    """One sha256 for named digests, in no particular order."""
    return digest(dict(parts))
