"""How the tests check types at run time: set before a module of the package is imported, for its doctests too.

This reaches into a private module of jaxtyping. Where it no longer fits, the tests are as sharp and take longer.
"""

import ast

from jaxtyping import _import_hook

if hasattr(_import_hook, "JaxtypingTransformer"):

    class _OuterFunctions(_import_hook.JaxtypingTransformer):
        """Leaves functions inside functions alone.

        jaxtyping decorates those anew each time the outer one runs, which compiles the checks again: 3 ms for each
        closure, and most of the time that tests took.
        """

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            inside = any(isinstance(parent, ast.FunctionDef) for parent in getattr(self, "_parents", ()))
            return node if inside else super().visit_FunctionDef(node)

    _import_hook.JaxtypingTransformer = _OuterFunctions
