"""``python -m nbbp.kernels.worker``: a process that compiles for another, see `nbbp.kernels.workers`."""

import contextlib
import importlib
import os
import pickle
import sys

from nbbp.kernels import jit


def main() -> None:
    """Compile the functions that standard input names, and answer each time with a byte."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # imported modules may print
    sys.modules["scipy"] = None  # type: ignore[assignment]  # Numba would import it, for products that no kernel takes
    while True:
        try:
            module, name, signature = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        importlib.import_module(module)
        jit.machine_code(jit.function(name), signature)
        with contextlib.suppress(BrokenPipeError):  # the other process may have ended
            answers.write(b".")


if __name__ == "__main__":
    main()
