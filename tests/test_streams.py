"""Data larger than memory: read as it is needed, trained on as data in memory are."""

import math
import pathlib
import subprocess
import sys
import threading

import numpy as np
import pytest

import nbbp
from nbbp import callbacks as cb
from nbbp import streams
from nbbp.tables import CellError, ClassTarget, TableEncoder, ValueTarget

ROWS = 1_000


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((ROWS, 5)).astype(np.float32)
    return X, (X[:, 0] > 0) + (X[:, 1] > 0)


def build(**settings) -> nbbp.Sequential:
    return nbbp.Sequential([nbbp.Dense(8, "tanh"), nbbp.Dense(3)], "softmax_cross_entropy", nbbp.Adam(0.02), **settings)


def parquet(folder, X, y):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({**{f"x{k}": column for k, column in enumerate(X.T)}, "y": y})
    for k, part in enumerate((table.slice(0, 600), table.slice(600))):
        pq.write_table(part, folder / f"{k}.parquet", row_group_size=128)
    return streams.from_parquet(sorted(folder.glob("*.parquet")), "y", buffer_rows=256)


def arrow(folder, X, y):
    pa, ipc = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.ipc")
    table = pa.table({**{f"x{k}": column for k, column in enumerate(X.T)}, "y": y})
    with ipc.new_file(folder / "data.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=100)
    return streams.from_arrow(folder / "data.arrow", "y", buffer_rows=256)


def mapped(folder, X, y):
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    return streams.from_arrays(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in "Xy"), buffer_rows=256)


def batches(folder, X, y):
    return streams.from_batches([(X[k : k + 70], y[k : k + 70]) for k in range(0, ROWS, 70)], buffer_rows=256)


def calls(folder, X, y):
    return streams.from_batches(lambda: zip(np.array_split(X, 7), np.array_split(y, 7), strict=True), ROWS, 256)


KINDS = {function.__name__: function for function in (parquet, arrow, mapped, batches, calls)}


@pytest.mark.parametrize("kind", KINDS)
def test_in_their_own_order_the_bytes_are_those_of_data_in_memory(kind, data, tmp_path):
    stream = KINDS[kind](tmp_path, *data)
    assert stream.rows == ROWS
    here, there = build(), build()
    expected = here.fit(*data, epochs=3, batch_size=24, shuffle=False, verbose=0)
    history = there.fit(stream, epochs=3, batch_size=24, shuffle=False, verbose=0)
    assert there.params.tobytes() == here.params.tobytes()
    assert history.step_loss.tobytes() == expected.step_loss.tobytes()
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-12)


PLACES = ["Bern", "Basel", "Chur"]
NAMES = [f"name {k}" for k in range(30)]  # too many for a column each: codes of an embedding


@pytest.fixture(scope="module")
def table(data):
    """Numbers, text of few and of many kinds, and the class as a word."""
    pytest.importorskip("narwhals")
    pa = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(3)
    words = np.array(["none", "one", "two"])[(data[0][:, :2] > 0).sum(axis=1)]
    columns = {"age": 50 + 9 * data[0][:, 0], "place": rng.choice(PLACES, ROWS), "name": rng.choice(NAMES, ROWS)}
    return pa.table({**columns, "positive": words, "sum": data[0].sum(axis=1)})


def parquet_of(folder, table, *target, **encoders):
    pq = pytest.importorskip("pyarrow.parquet")
    for k, part in enumerate((table.slice(0, 600), table.slice(600))):
        pq.write_table(part, folder / f"{k}.parquet", row_group_size=128)
    return streams.from_parquet([folder / "0.parquet", folder / "1.parquet"], *target, 256, **encoders)


def arrow_of(folder, table, *target, **encoders):
    ipc = pytest.importorskip("pyarrow.ipc")
    with ipc.new_file(folder / "data.arrow", table.schema) as file:
        file.write_table(table, max_chunksize=100)
    return streams.from_arrow(folder / "data.arrow", *target, 256, **encoders)


def batches_of(folder, table, target, **encoders):
    parts = [table.slice(k, 70) for k in range(0, ROWS, 70)]
    pairs = [(part.drop_columns(target).to_pandas(), part.column(target).to_pandas()) for part in parts]
    return streams.from_batches(pairs, buffer_rows=256, **encoders)


@pytest.mark.parametrize("make", [parquet_of, arrow_of, batches_of])
@pytest.mark.parametrize("target", ["positive", "sum"])
def test_an_encoded_stream_is_the_encoded_table(make, target, table, tmp_path):
    pytest.importorskip("pandas")
    kind, loss = (ClassTarget, "softmax_cross_entropy") if target == "positive" else (ValueTarget, "mse")
    encoder = TableEncoder.fit(table.select(["age", "place", "name"]))
    answers = kind.fit(table.column(target))
    stream = make(tmp_path, table, target, encoder=encoder, target_encoder=answers)
    here, there = (
        nbbp.Sequential([*encoder.layers(), nbbp.Dense(8, "tanh"), nbbp.Dense(3 if target == "positive" else 1)], loss)
        for _ in range(2)
    )
    X, y = encoder.encode(table), answers.encode(table.column(target))
    expected = here.fit(X, y, epochs=2, batch_size=24, shuffle=False, verbose=0)
    history = there.fit(stream, epochs=2, batch_size=24, shuffle=False, verbose=0)
    assert there.params.tobytes() == here.params.tobytes()
    assert history.step_loss.tobytes() == expected.step_loss.tobytes()


def test_what_a_stream_cannot_encode_is_named(table, tmp_path):
    encoder = TableEncoder.fit(table.select(["age", "place"]))
    with pytest.raises(ValueError, match=r"0\.parquet, row group 0: column 'place' must be numbers, .* encoder= makes"):
        parquet_of(tmp_path, table, "positive").first()
    with pytest.raises(ValueError, match=r"column 'positive' must be numbers, .* target_encoder= makes"):
        parquet_of(tmp_path, table, "positive", encoder=encoder).first()
    with pytest.raises(ValueError, match="the target 'age' is one of the encoder's columns"):
        parquet_of(tmp_path, table, "age", encoder=encoder)
    few = ClassTarget.fit(["none", "one"])
    row = table.column("positive").to_pylist().index("two")
    with pytest.raises(CellError, match=rf"0\.parquet, row group 0, row {row}, column 'positive': 'two' is none of"):
        parquet_of(tmp_path, table, "positive", encoder=encoder, target_encoder=few).first()
    with pytest.raises(ValueError, match="target_encoder is for one target, got 'positive', 'sum'"):
        parquet_of(tmp_path, table, ["positive", "sum"], encoder=encoder, target_encoder=few)
    endless = table.set_column(0, "age", [[math.inf] + [20.0] * (ROWS - 1)])
    with pytest.raises(CellError, match="record batch 0, row 0, column 'age': must be finite, got inf"):
        arrow_of(tmp_path, endless, "positive", encoder=encoder).first()


@pytest.mark.parametrize("kind", ["parquet", "mapped"])
def test_every_epoch_has_every_row_once_in_an_order_of_its_own(kind, data, tmp_path):
    X = np.zeros((ROWS, 1), np.float32)
    X[:, 0] = np.arange(ROWS)
    stream = KINDS[kind](tmp_path, X, np.zeros(ROWS, int))
    seen = [[], []]
    model = nbbp.Sequential([nbbp.Dense(1)], optimizer=nbbp.SGD(1e-30), backend="numpy")
    for epoch in seen:
        noting = cb.Call(lambda fit, epoch=epoch: epoch.append(fit.history.step_loss[-1]), every=1)
        model.fit(stream, batch_size=1, callbacks=[noting], verbose=0)
    w = float(model.named_params()["dense_0.w"][0, 0])
    assert seen[0] != seen[1]
    for losses in seen:
        np.testing.assert_array_equal(np.sort(np.rint(np.sqrt(losses) / abs(w))), np.arange(ROWS))


def test_a_stream_trains_as_well_as_memory(data, tmp_path):
    X, y = data
    model = build(metrics=["accuracy"])
    history = model.fit(mapped(tmp_path, X, y), epochs=20, batch_size=16, validation_data=(X, y), verbose=0)
    assert history["val_accuracy"][-1] > 0.97
    assert set(history.epochs) == {"loss", "val_loss", "val_accuracy"}


@pytest.mark.parametrize("step", [3, 10, 20, 42, 43])
def test_a_stream_is_resumed(step, data, tmp_path):
    stream = mapped(tmp_path, *data)

    def fit(*more):
        model = build()
        callbacks = [nbbp.Checkpoint(tmp_path / "run"), nbbp.Inspect(7), cb.LearningRateLog(), *more]
        model.fit(stream, epochs=4, batch_size=24, callbacks=callbacks, resume=tmp_path / "run", verbose=0)
        return model

    def fail(running):
        if running.model.steps == step:
            raise KeyboardInterrupt

    expected = build()
    expected.fit(stream, epochs=4, batch_size=24, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        fit(cb.Call(fail, every=1))
    resumed = fit()
    assert resumed.params.tobytes() == expected.params.tobytes()
    assert resumed.history.step_loss.tobytes() == expected.history.step_loss.tobytes()
    assert resumed.history["loss"] == expected.history["loss"]


def test_weights_and_accumulation(data):
    X, y = data
    weights = np.linspace(0, 2, ROWS)
    here, there = build(), build()
    here.fit(X, y, 2, 20, shuffle=False, sample_weight=weights, accumulate=3, verbose=0)
    there.fit(streams.from_arrays(X, y, weights, 200), epochs=2, batch_size=20, shuffle=False, accumulate=3, verbose=0)
    assert there.params.tobytes() == here.params.tobytes()


def test_a_pytorch_loader_is_a_stream(data):
    torch = pytest.importorskip("torch")
    X, y = (torch.as_tensor(array) for array in data)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=64)
    here, there = build(), build()
    here.fit(*data, 2, shuffle=False, verbose=0)
    there.fit(streams.from_batches(loader, buffer_rows=320), epochs=2, shuffle=False, verbose=0)
    assert there.params.tobytes() == here.params.tobytes()


def test_wrong_streams_are_refused(data, tmp_path):
    X, y = data
    model = build()
    with pytest.raises(TypeError, match="a stream has y"):
        model.fit(batches(None, X, y), y)
    for use in (
        model.predict,
        lambda given: model.evaluate(given, y),
        lambda given: model.fit(X, y, validation_data=(given, y)),
    ):
        with pytest.raises(TypeError, match="is a stream, from which fit can train and nothing else"):
            use(batches(None, X, y))
    with pytest.raises(TypeError, match="needs y, unless X is a stream"):
        model.fit(X)
    with pytest.raises(TypeError, match="generator can be read only once"):
        streams.from_batches(batch for batch in [(X, y)])
    with pytest.raises(TypeError, match=r"each batch must be \(X, y\)"):
        streams.from_batches([X])
    with pytest.raises(ValueError, match="X has 1000 rows and y has 999"):
        streams.from_arrays(X, y[1:])
    with pytest.raises(ValueError, match="gave 1000 rows in an epoch, and was to give 1100"):
        model.fit(streams.from_batches([(X, y)], rows=1_100, buffer_rows=256), verbose=0)
    parquet(tmp_path, X, y)
    with pytest.raises(ValueError, match="unknown target 'z'"):
        streams.from_parquet(tmp_path / "0.parquet", "z")


def test_what_is_wrong_in_the_middle_reaches_the_caller(data):
    X, y = data
    wrong = X.copy()
    wrong[700] = np.nan
    before = threading.active_count()
    with pytest.raises(ValueError, match="X"):
        build().fit(streams.from_arrays(wrong, y, buffer_rows=256), verbose=0, shuffle=False)
    assert threading.active_count() == before


LIMITED = """
import resource, sys
import numpy as np
import nbbp

def data_of_the_process():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmData")).split()[1])

X, y = (np.load(f"{sys.argv[1]}/{name}.npy", mmap_mode="r") for name in "Xy")
model = nbbp.Sequential([nbbp.Dense(4, "relu"), nbbp.Dense(1)])
warm = nbbp.streams.from_arrays(X[:4000], y[:4000], buffer_rows=2000)
model.fit(warm, batch_size=400, verbose=0)
limit = X.nbytes // 10
resource.setrlimit(resource.RLIMIT_DATA, (data_of_the_process() + limit, -1))
model.fit(nbbp.streams.from_arrays(X, y, buffer_rows=8_000), batch_size=400, verbose=0)
try:
    np.array(X)
except MemoryError:
    print("not all at once")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the process's memory as Linux does")
def test_a_file_ten_times_the_memory(tmp_path):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, (600_000, 64))
    for k in range(0, len(X), 10_000):
        X[k : k + 10_000] = np.random.default_rng(k).random((10_000, 64), np.float32)
    np.save(tmp_path / "y.npy", X[:, 0])
    run = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    pathlib.Path(tmp_path / "X.npy").unlink()
    assert run.stdout.strip() == "not all at once", run.stderr


def test_pieces_of_no_rows_are_passed_over(data):
    X, y = data
    whole, gaps = build(), build()
    whole.fit(streams.from_batches([(X, y)]), verbose=0)
    gaps.fit(streams.from_batches([(X[:0], y[:0]), (X[:300], y[:300]), (X[:0], y[:0]), (X[300:], y[300:])]), verbose=0)
    assert gaps.params.tobytes() == whole.params.tobytes()
    with pytest.raises(ValueError, match="has no rows"):
        build().fit(streams.from_batches([(X[:0], y[:0])], rows=10), verbose=0)


def test_a_buffer_in_which_no_row_counts(data):
    X, y = data
    weights = np.where(np.arange(ROWS) < 500, 1.0, 0.0)
    memory, streamed = build(), build()
    memory.fit(X, y, 2, verbose=0, shuffle=False, sample_weight=weights)
    streamed.fit(streams.from_arrays(X, y, weights, buffer_rows=64), epochs=2, verbose=0, shuffle=False)
    assert streamed.params.tobytes() == memory.params.tobytes()


@pytest.mark.parametrize("weighted", [0, 1])
def test_batches_with_and_without_weights_are_refused(weighted, data):
    X, y = data
    batches = [(X[:512], y[:512]), (X[512:], y[512:])]
    batches[weighted] += (np.full(len(batches[weighted][0]), 5.0),)
    with pytest.raises(ValueError, match="some batches have sample_weight"):
        build().fit(streams.from_batches(batches, rows=ROWS, buffer_rows=512), verbose=0)


def test_batch_norm_takes_one_row_that_is_left(data):
    X, y = data[0][:97], data[1][:97]
    layers = [nbbp.Dense(8, "tanh"), nbbp.BatchNorm(), nbbp.Dense(3)]
    memory, streamed = (nbbp.Sequential(layers, "softmax_cross_entropy") for _ in range(2))
    memory.fit(X, y, verbose=0, shuffle=False)
    streamed.fit(streams.from_arrays(X, y, buffer_rows=32), verbose=0, shuffle=False)
    assert streamed.params.tobytes() == memory.params.tobytes()
    with pytest.raises(ValueError, match="BatchNorm"):
        streamed.fit(streams.from_arrays(X, y, buffer_rows=32), verbose=0, batch_size=1)
