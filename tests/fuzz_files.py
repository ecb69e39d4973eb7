"""A fuzz target for model files, for runs by hand: any error but ModelFileError is a finding.

    pip install atheris && python tests/fuzz_files.py -max_total_time=600

An input is a file, or, where its first byte is odd, the description of a file whose digest is right: of a row of
layers, or of a graph where the byte's second bit is set.
"""

import contextlib
import json
import pathlib
import sys
import tempfile
import warnings

import atheris

with atheris.instrument_imports(include=["nbbp"]):
    import nbbp
    from nbbp.storage import files

FOLDER = pathlib.Path(tempfile.mkdtemp())
LAYERS = [
    nbbp.ColumnEmbedding({0: 3}),
    nbbp.Dense(4, "relu"),
    nbbp.BatchNorm(),
    nbbp.Residual([nbbp.Dense(4)]),
    nbbp.Dense(2),
]


def row() -> nbbp.Sequential:
    optimizer = nbbp.Adam(nbbp.schedules.WarmUp(nbbp.schedules.Cosine(0.1, 9), 3))
    model = nbbp.Sequential(LAYERS, optimizer=optimizer, averaging=nbbp.EMA())
    model.build(3)
    return model


def graph() -> nbbp.Model:
    x, other, shared = nbbp.Input((2, 4), name="x"), nbbp.Input((2, 4), "int32"), nbbp.Dense(3, "relu")
    h = nbbp.Add()(shared(x), shared(other))
    outputs = {"sum": nbbp.Residual([nbbp.Dense(5), nbbp.Dense(2)])(h), "same": nbbp.Multiply()(h, h)}
    return nbbp.Model([x, other], outputs, {"sum": "softmax_cross_entropy", "same": "mse"}, "adam")


def corpus() -> tuple[pathlib.Path, list[files.Arrays]]:
    """A folder with inputs of all kinds, and the arrays that belong to the descriptions."""
    seeds, arrays = FOLDER / "corpus", []
    seeds.mkdir()
    for k, model in enumerate((row(), graph())):
        model.save(FOLDER / "model")
        own, description = files.read(FOLDER / "model")
        (seeds / f"file_{k}").write_bytes(b"\0" + (FOLDER / "model").read_bytes())
        (seeds / f"description_{k}").write_bytes(bytes([2 * k + 1]) + json.dumps(description).encode())
        arrays.append(own)
    return seeds, arrays


def load(data: bytes) -> None:
    path, kind, content = FOLDER / "input", data[:1], data[1:]
    if kind and kind[0] & 1:
        try:
            description = json.loads(content)
            files.write(path, ARRAYS[kind[0] >> 1 & 1], description)
        except (ValueError, RecursionError):
            return
    else:
        path.write_bytes(content)
    with contextlib.suppress(nbbp.ModelFileError):
        nbbp.load(path)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    SEEDS, ARRAYS = corpus()
    atheris.Setup([*sys.argv, str(SEEDS)], load)
    atheris.Fuzz()
