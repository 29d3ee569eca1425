"""How the tests check types at run time: set before a module of the package is imported, for its doctests too.

This reaches into private modules of jaxtyping. Where it no longer fits, the tests are as sharp and take longer.
"""

import ast
from collections.abc import Callable

import jaxtyping
from jaxtyping import _decorator, _import_hook

_SHAPED = {"Bool", "Float", "Int", "UInt8"}  # the words of jaxtyping that the package uses


def _names_shapes(node: ast.FunctionDef) -> bool:
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    hints = [node.returns, *(argument.annotation for argument in every if argument)]
    return any(isinstance(n, ast.Name) and n.id in _SHAPED for hint in hints if hint for n in ast.walk(hint))


def _types_checked(check: Callable) -> Callable:
    """The checker of types alone, for a function without shapes: hints that cannot be evaluated are not checked."""

    def decorate(function: Callable) -> Callable:
        written = function.__annotations__
        function.__annotations__ = {
            name: _decorator._destring_annotation(hint, function.__globals__) for name, hint in written.items()
        }
        checked = check(function)
        function.__annotations__ = checked.__annotations__ = written
        return checked

    return decorate


if hasattr(_import_hook, "JaxtypingTransformer") and hasattr(_decorator, "_destring_annotation"):

    class _Sparing(_import_hook.JaxtypingTransformer):
        """Leaves functions inside functions alone, and binds arguments only where there are shapes to compare.

        jaxtyping decorates the former anew each time the outer one runs, which compiles the checks again: 3 ms for
        each closure. And it binds the arguments of every call by `inspect`, where most functions name no shape.
        """

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            if any(isinstance(parent, ast.FunctionDef) for parent in getattr(self, "_parents", ())):
                return node
            written = len(node.decorator_list)
            super().visit_FunctionDef(node)
            if not _names_shapes(node):
                for call in node.decorator_list[written:]:  # jaxtyping.jaxtyped(typechecker=...)
                    call.func.attr, call.keywords[0].arg = "types_checked", "check"
            return node

    jaxtyping.types_checked = _types_checked
    _import_hook.JaxtypingTransformer = _Sparing
