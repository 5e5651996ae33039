"""Finds the errors of the package whose messages no test has seen."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

TEXT = (ast.Constant, ast.JoinedStr, ast.BinOp, ast.IfExp)


def raises(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yields, for every `raise` in the files, its place and the longest constant piece of its message."""
    for path in paths:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        assigned = {n.targets[0].id: n.value for n in nodes if _assigns_text(n)}
        for node in nodes:
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                messages = [assigned.get(arg.id, arg) if _is_name(arg) else arg for arg in node.exc.args]
                strings = [n.value for message in messages for n in ast.walk(message) if isinstance(n, ast.Constant)]
                pieces = [piece for piece in strings if isinstance(piece, str)]
                yield f"{path.parent.name}/{path.name}:{node.lineno}", max(pieces, key=len, default="")


def _assigns_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and _is_name(node.targets[0]) and isinstance(node.value, TEXT)


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def untested(found: Iterable[tuple[str, str]], calls: Iterable[Callable[[], Any]]) -> list[str]:
    """Returns the errors that no call raises."""
    messages = []
    for call in calls:
        try:
            call()
        except (ImportError, TypeError, ValueError) as error:
            messages.append(str(error))
    return [f"{where}: {piece}" for where, piece in found if not any(piece in message for message in messages)]
