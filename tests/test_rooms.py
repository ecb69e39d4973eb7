"""The rooms of the package: no import runs upward or in a circle, nothing reaches into a model, files are short."""

import ast
import pathlib

import nbbp

PACKAGE = pathlib.Path(nbbp.__file__).parent

LEVELS = [
    ["_version", "synonyms", "kernels"],
    ["checks"],
    ["activations", "initializers", "schedules"],
    ["engine"],
    ["layers", "losses", "optimizers", "metrics", "training.averaging"],
    ["storage", "insight.summary", "insight.norms"],
    ["plots"],
    ["insight.notebook", "tables", "series", "streams", "training.monitors", "callbacks", "distributed"],
    ["training", "insight.inspection"],
    ["model", "sequential"],
    ["insight", "recipes", "sklearn", "exchange", "trackers", "datasets"],
    ["", "exchange.command"],
    ["bench", "papers"],
    ["cli"],
    ["__main__"],
]
"""From the lowest up: a room, or a module of one that lies elsewhere than the rest of its room."""

LONG = {
    "losses": "one entry for each loss, with its equation and how other libraries differ",
    "metrics": "one entry for each metric, with its equation and its source",
    "optimizers": "one kernel pair and one dataclass for each optimizer, read side by side",
    "sklearn.base": "the arguments of both estimators and what scikit-learn asks of them",
}
"""Files above 400 lines, and why."""


def modules() -> dict[str, pathlib.Path]:
    """By name within the package, such as ``kernels.jit``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imports(node: ast.AST, found: set[str] | None = None) -> set[str]:
    """The modules of the package that a file imports, within functions too, but not for type checkers alone."""
    found = set() if found is None else found
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        for other in node.orelse:
            imports(other, found)
        return found
    if isinstance(node, ast.Import):
        named = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, "imports name the whole path"
        named = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        named = []
    for name in named:
        first, _, rest = name.partition(".")
        if first == "nbbp":
            found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    for child in ast.iter_child_nodes(node):
        imports(child, found)
    return found


IMPORTS = {name: imports(tree) - {name} for name, tree in TREES.items()}


def level(module: str) -> int:
    """Of the longest entry that the module lies in."""
    known = {entry: number for number, entries in enumerate(LEVELS) for entry in entries}
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (entry := ".".join(parts[:length])) in known:
            return known[entry]
    raise AssertionError(f"{module} is in no level: put it into LEVELS")


def test_imports_are_found():
    assert "engine.program" in IMPORTS["losses.base"]
    assert "plots" in IMPORTS["training.history"], "within a function"
    assert "training.fit" not in IMPORTS["callbacks"], "for type checkers"
    assert len(MODULES) > 100


def test_no_import_runs_upward():
    upward = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in sorted(others)
        if level(other) > level(module)
    ]
    assert not upward


def test_no_imports_run_in_a_circle():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(IMPORTS[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_every_level_has_modules():
    entries = [entry for entries in LEVELS for entry in entries]
    assert len(entries) == len(set(entries))
    for entry in set(entries) - {"distributed"}:  # which is to come
        assert entry in MODULES


def private(tree: ast.AST) -> set[str]:
    """Underscore names of attributes that the classes of a file have."""
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and owner(node) == "self"}
    return {name for name in functions | attributes if name.startswith("_") and not name.endswith("__")}


def owner(node: ast.Attribute) -> str:
    return node.value.id if isinstance(node.value, ast.Name) else ""


def test_nothing_reaches_into_a_model():
    names = private(TREES["model"]) | private(TREES["sequential"])
    assert {"_built", "_settings"} <= names
    reached = [
        f"{module}, line {node.lineno}: {ast.unparse(node)}"
        for module, tree in TREES.items()
        if module not in ("model", "sequential")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in names and owner(node) not in ("self", "cls")
        if owner(node) not in {alias.split(".")[-1] for alias in IMPORTS[module]}  # a function of a module
    ]
    assert not reached


def test_a_model_is_not_cut_into_bases():
    assert nbbp.Model.__bases__ == (object,)
    assert nbbp.Sequential.__bases__ == (nbbp.Model,)


def test_files_are_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name for name, length in lengths.items() if length > 400} <= LONG.keys()
    assert LONG.keys() <= MODULES.keys()
    assert lengths["model"] < 250


def test_parallel_loops_have_a_plain_number_of_iterations():
    """Numba runs `prange` of a conditional expression on one thread, and says nothing."""
    conditional = [
        f"{module}, line {node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "prange"
        if any(isinstance(part, ast.IfExp | ast.BoolOp) for argument in node.args for part in ast.walk(argument))
    ]
    assert not conditional
