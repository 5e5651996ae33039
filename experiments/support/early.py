"""Reports errors on the command line before a script's slow imports, such as JAX."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator
from pathlib import Path

from support.errors import BAD_INPUT, BadInputError, end_on_interrupt, end_quietly, fail
from support.parsing import check, from_command_line

FAST = ("__future__", "collections", "dataclasses", "math", "pathlib", "typing", "support.errors", "support.options")


def check_command_line(script: str) -> None:
    """Parses the command line with the option classes of a script alone, and ends with --help or the error, if any.

    Imports of the other scripts and of JAX take seconds. Everything is checked again when the script is launched, so
    what needs these imports, such as the name of a cell, is left to then. Until then, Ctrl-C ends the script at once.
    """
    path = Path(script).resolve()
    try:
        module = option_module(path)
        calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)]
        (launch,) = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "launch")
        found = from_command_line(
            tuple(eval(ast.unparse(group), vars(module)) for group in launch.args[1:]), module.__doc__
        )
        if not any(group.continues_run for group in found):
            check(found)
    except BadInputError as error:
        fail(str(error), BAD_INPUT)
    except BrokenPipeError:
        end_quietly()
    except NameError:  # something needs the imports
        pass
    end_on_interrupt()


def option_module(path: Path) -> types.ModuleType:
    """Returns a module with only the option classes of a script, and what they need of its fast imports."""
    tree = ast.parse(path.read_bytes())
    module = types.ModuleType(f"{path.stem} options", ast.get_docstring(tree))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look up annotations
    tree.body = list(parts_of(tree, path.parent, module))
    exec(compile(tree, str(path), "exec"), vars(module))
    return module


def parts_of(tree: ast.Module, folder: Path, module: types.ModuleType) -> Iterator[ast.stmt]:
    """Yields the parts of a script that its options need, and adds other scripts whose options it has too."""
    for node in tree.body:
        match node:
            case ast.ImportFrom(module=name) if name in FAST:
                yield node
            case ast.Import(names=[ast.alias(name=name)]) if name in FAST:
                yield node
            case ast.Import(names=[ast.alias(name=name)]) if (folder / f"{name}.py").exists():
                setattr(module, name, option_module(folder / f"{name}.py"))
            case ast.Assign(value=ast.Subscript(value=ast.Name(id="Literal"))):
                yield node
            case ast.ClassDef(bases=[ast.Name(id=base)]) if base == "OptionGroup" or base.endswith("Options"):
                yield node
