"""Fits on several ranks, or on one: the digests of their results, as one list in JSON.

``mpiexec -n 4 python -m mpi4py tests/ranks_program.py [SHARDS [CASE ...]]`` runs all cases, or some.
"""

import hashlib
import json
import sys

import numpy as np

import nbbp
from nbbp import streams

ROWS = 195  # the last mini-batch of 64 has 3 rows
SHARDS = 8


def table(rows: int = ROWS, columns: int = 9):
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, columns), dtype=np.float32), rng.integers(0, 3, rows)


def images():
    rng = np.random.default_rng(1)
    return rng.standard_normal((50, 8, 8, 2), dtype=np.float32), rng.integers(0, 3, 50)


def sequences():
    rng = np.random.default_rng(2)
    return rng.standard_normal((70, 6, 4), dtype=np.float32), rng.integers(0, 3, 70)


def network(*layers, **given) -> nbbp.Sequential:
    return nbbp.Sequential([*layers, nbbp.Dense(3)], "softmax_cross_entropy", nbbp.Adam(0.01), ["accuracy"], **given)


def narrow(how):
    model = network(nbbp.Dense(20, "tanh"), nbbp.Dropout(0.2))
    return model, model.fit(*table(), **how, validation_data=table(40))


def wide(how):
    model = network(nbbp.Dense(700, "relu"), nbbp.Dense(300, "relu"))
    return model, model.fit(*table(), **how)


def long(how):
    model = network(nbbp.Dense(1100, "relu"), nbbp.Dense(1000, "relu"))
    return model, model.fit(*table(), **how)


def clipped(how):
    model = network(nbbp.Dense(20, "tanh", l2=0.001), averaging=nbbp.EMA(0.9))
    weights = np.linspace(0, 2, ROWS)
    return model, model.fit(*table(), **how, sample_weight=weights, callbacks=[nbbp.callbacks.EarlyStopping("loss", 1)])


def noisy(how):
    optimizer = nbbp.SGD(0.1, clip_norm=0.5, gradient_noise=0.01)
    model = nbbp.Sequential([nbbp.Dense(8, "relu"), nbbp.Dense(3)], "softmax_cross_entropy", optimizer)
    return model, model.fit(*table(), **how)


def normalized(how):
    model = network(nbbp.Dense(20), nbbp.BatchNorm(), nbbp.Activation("relu"))
    return model, model.fit(*table(192), **how)


def accumulated(how):
    model = network(nbbp.Dense(20, "tanh"))
    return model, model.fit(*table(), **how | {"batch_size": 20}, accumulate=3)


def convolution(how):
    model = network(nbbp.Conv2D(4, 3, activation="relu"), nbbp.MaxPool2D(2), nbbp.Flatten())
    return model, model.fit(*images(), **how)


def recurrence(how):
    model = network(nbbp.LSTM(10))
    return model, model.fit(*sequences(), **how, lengths=np.arange(70) % 6 + 1)


def tokens(how):
    rng = np.random.default_rng(3)
    X, y = rng.integers(0, 20, (70, 6)), rng.integers(0, 3, (70, 6))
    model = network(nbbp.Embedding(20, 8), nbbp.TransformerBlock(2))
    return model, model.fit(X, y, **how, lengths=np.arange(70) % 6 + 1)


def stateful(how):
    model = network(nbbp.GRU(10, stateful=True))
    X, y = sequences()
    return model, model.fit(X[:64], y[:64], **how | {"batch_size": 32}, shuffle=False)


def streamed(how):
    model = network(nbbp.Dense(20, "tanh"), nbbp.Dropout(0.2))
    return model, model.fit(streams.from_arrays(*table(), buffer_rows=128), **how)


def plain_numpy(how):
    model = network(nbbp.Dense(20, "tanh"), nbbp.Dropout(0.2), backend="numpy")
    return model, model.fit(*table(), **how)


DENSE = narrow, wide, long, clipped, noisy, normalized, accumulated, streamed, plain_numpy
CASES = {case.__name__: case for case in (*DENSE, convolution, recurrence, tokens, stateful)}


def digest(model: nbbp.Sequential, history: nbbp.History) -> str:
    found = hashlib.sha256(model.params.tobytes() + model.network.state.tobytes() + history.step_loss.tobytes())
    found.update(json.dumps(history.epochs).encode())
    return found.hexdigest()[:16]


def run(names, communicator=None, shards: int = SHARDS) -> dict[str, str]:
    """The digest of each case."""
    how = {"epochs": 3, "batch_size": 64, "shards": shards, "verbose": 0, "communicator": communicator}
    return {name: digest(*CASES[name](how)) for name in names}


if __name__ == "__main__":
    from mpi4py import MPI

    shards, *names = sys.argv[1:] or [SHARDS]
    found = MPI.COMM_WORLD.gather(run(names or CASES, MPI.COMM_WORLD, int(shards)))
    if found:
        print(json.dumps(found))
