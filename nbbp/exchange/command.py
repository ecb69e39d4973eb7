"""nbbp export: a saved model for other programs."""

import argparse
import pathlib
from typing import Any

from nbbp.recipes.tabular import MODEL, PREPROCESSING, TableModel, file_of_member


def add_parser(subparsers) -> None:
    """Add the command to those of `nbbp`."""
    parser = subparsers.add_parser("export", help=run.__doc__, description=run.__doc__)
    parser.add_argument(
        "model", metavar="MODEL", help="what model.save wrote, or a folder of nbbp train or of checkpoints"
    )
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--numpy", metavar="FILE.py", help="one Python file that needs nothing but NumPy")
    target.add_argument("--onnx", metavar="FILE.onnx", help="the network, for onnxruntime and others")
    target.add_argument(
        "--torch",
        metavar="FILE.safetensors",
        help="the weights, under nn.Sequential's names, a file for each network",
    )
    parser.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> None:
    """Write a saved model for other programs."""
    import nbbp
    from nbbp import exchange
    from nbbp.training.checkpoint import newest

    path = pathlib.Path(arguments.model)
    of_table = (path / PREPROCESSING).is_file()
    if (path / MODEL).is_file():
        path = path / MODEL
    model: Any = TableModel.load(path.parent) if of_table else nbbp.load(newest(path) if path.is_dir() else path)
    written = [arguments.numpy or arguments.onnx]
    if arguments.numpy:
        exchange.to_numpy_file(model, arguments.numpy)
    elif arguments.onnx:
        exchange.to_onnx(model, arguments.onnx)
    else:
        members = model.members if of_table else [model]
        written = [file_of_member(arguments.torch, k) for k in range(1, len(members) + 1)]
        for member, file in zip(members, written, strict=True):
            exchange.to_safetensors(member, file)
    print(f"{', '.join(written)} written")
    if of_table and arguments.torch:
        preparing = path.with_name(PREPROCESSING)
        print(f"columns have to be prepared as {preparing} says, as nbbp predict does by itself")
    elif of_table:
        print(f"it takes the columns as they are: {', '.join(column.name for column in model.encoder.columns)}")
