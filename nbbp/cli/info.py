"""nbbp info."""

import numpy as np

from nbbp.cli.commands import Command, kernel_folders


def register(command: Command) -> None:
    command("info", info)


def info(arguments) -> None:
    """Show what nbbp finds on this machine."""
    import platform

    import numba
    from llvmlite import binding

    import nbbp
    from nbbp.kernels import threads, tiles

    rows = {
        "nbbp": nbbp.__version__,
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
        "processor": f"{platform.machine()}, {binding.get_host_cpu_name()}",
        "vector width": f"{tiles.VECTOR_BYTES * 8} bits",
        "bfloat16": "by an instruction" if tiles.PAIR_INSTRUCTION else "in float32, more slowly",
        "threads": "{} ({})".format(*threads.default()),
        "bound to": threads.binding(),
        "threading layer": threads.layer(),
        "compiled kernels": f"\n{'':17}".join(kernel_folders()),
    }
    for name, value in rows.items():
        print(f"{name:16} {value}")
