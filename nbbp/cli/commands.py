"""Helpers of all commands."""

import argparse
import os
import pathlib
from collections.abc import Callable

Command = Callable[..., argparse.ArgumentParser]
"""``command(name, function, examples="")`` adds a command.

The function takes the arguments and returns an exit code, or None for 0.
"""


def check_folder(path: str) -> None:
    """Check that the folder of a file exists, before any work that would be lost."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} to write {pathlib.Path(path).name} into")


def kernel_folders() -> list[str]:
    """The folders of compiled kernels, with the number and size of the kernels, and whether each can be written to."""
    from nbbp.kernels import cache

    lines = []
    for folder in cache.folders():
        sizes = [file.stat().st_size for file in folder.glob("*.nbc")]
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
        ending = "" if os.path.isdir(there) and os.access(there, os.W_OK) else ", cannot be written to"
        lines.append(f"{folder}: {len(sizes)} kernels, {sum(sizes) / 1e6:.1f} MB{ending}")
    return lines
