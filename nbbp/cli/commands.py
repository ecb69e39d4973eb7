"""What all commands share."""

import argparse
import pathlib
from collections.abc import Callable

Command = Callable[..., argparse.ArgumentParser]
"""``command(name, function, examples="")`` adds a command.

The function takes the arguments and returns an exit code, or None for 0.
"""


def check_folder(path: str) -> None:
    """Before the work that would be lost."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to write {pathlib.Path(path).name} into")
