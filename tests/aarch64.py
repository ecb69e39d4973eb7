"""Kernels for aarch64 that are compiled on another machine, for `.ci/aarch64`.

``python tests/aarch64.py record FILE ARGUMENTS...`` runs pytest and writes down which kernels it needs; ``python
tests/aarch64.py compile FILE`` compiles these for aarch64 into the cache, from which Numba loads them there. In an
emulator, compilation would take hours.
"""

import importlib
import pathlib
import pickle
import sys

from llvmlite import binding

TRIPLE = "aarch64-unknown-linux-gnu"


def record(file: pathlib.Path, arguments: list[str]) -> int:
    """Run pytest; the functions that were compiled or loaded, and their signatures, are in the file."""
    import pytest

    from nbbp.kernels.cache import KernelCache

    load, needed = KernelCache.load_overload, {}

    def noted(self, signature, context):
        needed[self._py_func.__module__, self._py_func.__qualname__, signature] = None
        return load(self, signature, context)

    KernelCache.load_overload = noted  # type: ignore[method-assign]
    status = pytest.main(arguments)
    file.write_bytes(pickle.dumps(list(needed)))
    return int(status)


def compile_recorded(file: pathlib.Path) -> None:
    """Compile what a file lists, as Numba does where LLVM says that it runs on aarch64; nothing of it is called."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(TRIPLE)
    binding.get_process_triple = binding.get_default_triple = lambda: TRIPLE
    binding.get_host_cpu_features = dict
    binding.Target.from_default_triple = lambda: target

    from numba.core.dispatcher import Dispatcher

    from nbbp.kernels.jit import KERNELS

    needed = pickle.loads(file.read_bytes())
    modules = [importlib.import_module(name) for name in dict.fromkeys(module for module, _, _ in needed)]
    functions = [thing for module in modules for thing in vars(module).values() if isinstance(thing, Dispatcher)]
    functions += [twin for kernel in KERNELS.values() for twin in (kernel.serial, kernel.parallel)]
    named = {(function.py_func.__module__, function.py_func.__qualname__): function for function in functions}
    for number, (module, name, signature) in enumerate(needed, 1):
        print(f"{number} of {len(needed)}: {name}", flush=True)
        named[module, name].compile(signature)


if __name__ == "__main__":
    if sys.argv[1] == "record":
        sys.exit(record(pathlib.Path(sys.argv[2]), sys.argv[3:]))
    compile_recorded(pathlib.Path(sys.argv[2]))
