"""Fixtures of the package's doctests."""

import ast
import importlib.util

import pytest

collect_ignore = [] if importlib.util.find_spec("sklearn") else ["sklearn"]


@pytest.fixture(autouse=True)
def _imports(request):
    """A doctest is skipped if a library that it imports, one of nbbp's extras, is missing."""
    for example in request.node.dtest.examples:
        for statement in ast.walk(ast.parse(example.source)):
            if isinstance(statement, ast.Import):
                for module in statement.names:
                    pytest.importorskip(module.name)
