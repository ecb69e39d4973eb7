"""Files that nbbp 0.1.0 wrote: they load bit for bit, and train on with the bits of this version.

With 0.1.0 in PYTHONPATH, ``python tests/test_saved_by_0_1.py`` writes the files and prints a digest of what they hold.
"""

import pathlib
import shutil
import tempfile

import numpy as np
import runs

import nbbp

FOLDER = pathlib.Path(__file__).parent / "data"
MODEL, CHECKPOINT = FOLDER / "model_0_1.safetensors", FOLDER / "checkpoint_0_1.safetensors"
STORED = "9b288b1b3a632397"  # 0.1.0's; the others differ from its own by the last digits of tanh and AdamW
TRAINED_ON = "0106933f0a5b7781"
RESUMED = "868c85e71d44768b"

pytestmark = runs.with_the_same_bits


def network() -> nbbp.Sequential:
    """All that a file can hold; no number goes through a function that has a version for each processor."""
    schedule = nbbp.schedules.WarmUp(nbbp.schedules.Step(0.02, every=9, factor=0.5), steps=5)
    columns = nbbp.ColumnEmbedding if hasattr(nbbp, "ColumnEmbedding") else nbbp.Embedding  # its name in 0.1.0
    return nbbp.Sequential(
        [
            columns({8: 3, 9: 5}, dimension=2),
            nbbp.Dense(5, "tanh", l2=1e-3, max_norm=2.0),
            nbbp.Residual([nbbp.Dense(6, "relu"), nbbp.BatchNorm(), nbbp.Dropout(0.2)]),
            nbbp.LayerNorm(),
            nbbp.Dense(2),
        ],
        loss="softmax_cross_entropy", optimizer=nbbp.AdamW(schedule, clip_norm=1.0), metrics=["accuracy"], seed=3,
        label_smoothing=0.1, averaging=nbbp.EMA(0.9),
    )  # fmt: skip


def data() -> tuple[np.ndarray, np.ndarray]:
    X, _ = runs.rows(96, 8)
    return np.column_stack([X, np.arange(96) % 3, np.arange(96) * 7 % 5]), np.arange(96) * 7 % 2


def fit(model, epochs: int, **more) -> nbbp.History:
    """Five steps an epoch, the last of 16 rows."""
    return model.fit(*data(), epochs, batch_size=20, validation_data=data(), verbose=0, **more)


def watched(model, epochs: int, folder, **more) -> nbbp.History:
    """A fit with callbacks that remember something."""
    stopping = nbbp.callbacks.EarlyStopping("val_loss", patience=9)
    return fit(model, epochs, callbacks=[stopping, nbbp.Checkpoint(folder, every=7, keep=9)], **more)


def stored(model) -> str:
    """Digest of parameters, running statistics and averages."""
    return runs.digest(model.params, model.network.state, model.averaged().params)[:16]


def all_of(model, history=None) -> str:
    """Digest of parameters, running statistics, averages, predictions and what was recorded."""
    recorded = [] if history is None else [history.step_loss, *(np.array(values) for values in history.epochs.values())]
    averages = model.averaged().params
    return runs.digest(model.params, model.network.state, averages, model.predict(data()[0]), *recorded)[:16]


def test_a_model_trains_on():
    model = nbbp.load(MODEL)
    assert stored(model) == STORED
    assert all_of(model, fit(model, 2)) == TRAINED_ON
    assert (model.params == 0).any()  # pruned


def test_a_checkpoint_is_resumed(tmp_path):
    model = network()
    assert all_of(model, watched(model, 3, tmp_path, resume=CHECKPOINT)) == RESUMED
    assert nbbp.load(CHECKPOINT).steps == 14  # within the second epoch


def test_what_was_loaded_is_saved_again(tmp_path):
    model = nbbp.load(MODEL)
    model.save(tmp_path / "model.safetensors")
    again = nbbp.load(tmp_path / "model.safetensors")
    assert all_of(again, fit(again, 2)) == TRAINED_ON


def write() -> None:
    model = network()
    fit(model, 2)
    nbbp.prune(model, 0.4)
    fit(model, 1)
    FOLDER.mkdir(exist_ok=True)
    model.save(MODEL)
    print("STORED", stored(model))
    model = network()
    fit(model, 1)
    nbbp.prune(model, 0.4)
    with tempfile.TemporaryDirectory() as folder:
        watched(model, 3, folder)
        shutil.copy(pathlib.Path(folder) / "step_000000014.safetensors", CHECKPOINT)


if __name__ == "__main__":
    print(nbbp.__version__, nbbp.__file__)
    write()
