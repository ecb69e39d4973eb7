"""A fuzz target for model files, for runs by hand: any error but ModelFileError is a finding.

    pip install atheris && python tests/fuzz_files.py -max_total_time=600

An input is a file, or, where its first byte is odd, the description of a file whose digest is right.
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
    nbbp.Embedding({0: 3}),
    nbbp.Dense(4, "relu"),
    nbbp.BatchNorm(),
    nbbp.Residual([nbbp.Dense(4)]),
    nbbp.Dense(2),
]


def corpus() -> tuple[pathlib.Path, files.Arrays]:
    """A folder with the two kinds of inputs, and the arrays of the second."""
    optimizer = nbbp.Adam(nbbp.schedules.WarmUp(nbbp.schedules.Cosine(0.1, 9), 3))
    model = nbbp.Sequential(LAYERS, optimizer=optimizer, averaging=nbbp.EMA())
    model.build(3)
    model.save(FOLDER / "model")
    arrays, description = files.read(FOLDER / "model")
    seeds = FOLDER / "corpus"
    seeds.mkdir()
    (seeds / "file").write_bytes(b"\0" + (FOLDER / "model").read_bytes())
    (seeds / "description").write_bytes(b"\1" + json.dumps(description).encode())
    return seeds, arrays


def load(data: bytes) -> None:
    path, kind, content = FOLDER / "input", data[:1], data[1:]
    if kind and kind[0] & 1:
        try:
            description = json.loads(content)
            files.write(path, ARRAYS, description)
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
