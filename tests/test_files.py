"""Model files: what comes back is what was saved, and no file does harm."""

import dataclasses
import json
import os
import pickle
import re
import time
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy

import nbbp
from nbbp.storage import files

LAYERS = [
    nbbp.ColumnEmbedding({0: 3}, dimension=2),
    nbbp.Dense(5, activation="tanh", l2=0.01),
    nbbp.BatchNorm(),
    nbbp.Residual([nbbp.Dense(5, activation="relu"), nbbp.LayerNorm(), nbbp.Dropout(0.1)]),
    nbbp.Dense(3),
]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((40, 4))
    X[:, 0] = rng.integers(0, 3, 40)
    return X, rng.integers(0, 3, 40)


def build(optimizer="adam", **settings) -> nbbp.Sequential:
    settings = {"loss": "softmax_cross_entropy", "metrics": ["accuracy"], "dtype": "float64"} | settings
    return nbbp.Sequential(LAYERS, optimizer=optimizer, **settings)


@pytest.fixture(scope="module")
def content(data, tmp_path_factory):
    """A model file's bytes."""
    model = build(nbbp.AdamW(nbbp.schedules.WarmUp(nbbp.schedules.Cosine(0.01, 20), 5)), averaging=nbbp.EMA(0.9))
    model.fit(*data, epochs=1, verbose=0)
    path = tmp_path_factory.mktemp("content") / "model.safetensors"
    model.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def graph_content(tmp_path_factory):
    """That of a graph with a layer that is called twice, two inputs and two outputs."""
    x, other, shared = nbbp.Input((2, 4), name="x"), nbbp.Input((2, 4), "int32"), nbbp.Dense(3, "relu")
    h = nbbp.Add()(shared(x), shared(nbbp.BatchNorm()(nbbp.ColumnEmbedding({0: 3}, 1)(other))))
    outputs = {"sum": nbbp.Residual([nbbp.Dense(5), nbbp.Dense(2)])(h), "same": nbbp.Multiply()(h, h)}
    losses = {"sum": "softmax_cross_entropy", "same": "mse"}
    model = nbbp.Model([x, other], outputs, losses, "adam", metrics={"sum": ["accuracy"]}, averaging=nbbp.SWA(2))
    path = tmp_path_factory.mktemp("graph") / "model.safetensors"
    model.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("optimizer", nbbp.OPTIMIZERS)
def test_a_loaded_model_goes_on_where_the_saved_one_stopped(optimizer, data, tmp_path):
    model = build(optimizer, averaging=nbbp.SWA(begin=2), label_smoothing=0.1)
    model.fit(*data, epochs=2, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = nbbp.load(tmp_path / "model.safetensors")
    assert loaded.predict(data[0]).tobytes() == model.predict(data[0]).tobytes()
    assert loaded.evaluate(*data) == model.evaluate(*data)
    for one in (model, loaded):
        one.fit(*data, epochs=2, verbose=0)
    assert loaded.params.tobytes() == model.params.tobytes()
    assert loaded.averaged().params.tobytes() == model.averaged().params.tobytes()


@pytest.mark.parametrize("optimizer", [
    nbbp.SGD(nbbp.schedules.Step(0.1, every=7), momentum=nbbp.schedules.SutskeverMomentum(0.9), nesterov=True),
    nbbp.Adam(0.02, beta1=0.5, clip_norm=3.0, gradient_noise=0.01),
    nbbp.AdamW(np.float64(0.02), weight_decay=0.1, clip_value=1.0),
])  # fmt: skip
def test_settings_come_back(optimizer, tmp_path):
    layers = [nbbp.Dense(4, "gelu", use_bias=False, l1=0.1, max_norm=2.0, initializer="orthogonal"), nbbp.Dense(1)]
    model = nbbp.Sequential(layers, "huber", optimizer, ["mae"], seed=7, dtype="float64", backend="numpy")
    model.save(tmp_path / "model")  # not built
    loaded = nbbp.load(tmp_path / "model")
    assert loaded.layers == layers
    assert loaded.optimizer == optimizer
    assert (loaded.loss, loaded.metrics, loaded.seed) == (model.loss, model.metrics, 7)
    assert (loaded.dtype, loaded.backend) == (np.float64, "numpy")


def test_pruned_weights_stay_pruned(data, tmp_path):
    model = build()
    model.fit(*data, epochs=1, verbose=0)
    nbbp.prune(model, 0.5)
    model.save(tmp_path / "model")
    loaded = nbbp.load(tmp_path / "model")
    zero = loaded.params == 0
    loaded.fit(*data, epochs=1, verbose=0)
    assert zero.any()
    assert not loaded.params[zero].any()


def test_names_in_the_file_are_those_of_the_parameters(data, tmp_path):
    model = build()
    model.fit(*data, epochs=1, verbose=0)
    model.save(tmp_path / "model")
    arrays = safetensors.numpy.load_file(tmp_path / "model")
    for name, parameter in model.named_params().items():
        np.testing.assert_array_equal(arrays[name], parameter)
    assert {"batchnorm_0.mean", "residual_0.dense_0.w"} < arrays.keys()


def test_equal_models_are_equal_files(data, tmp_path):
    for name in ("one", "other"):
        model = build()
        model.fit(*data, verbose=0)
        model.save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_names_of_columns_come_back(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("narwhals")
    table = pd.DataFrame({"a": [0.0, 1.0], "b": [1.0, 0.0]})
    model = nbbp.Sequential([nbbp.Dense(1)])
    model.fit(table, [0.0, 1.0], verbose=0)
    loaded = nbbp.load(saved(tmp_path, model))
    with pytest.raises(ValueError, match="b"):
        loaded.predict(table[["a"]])


@dataclasses.dataclass(frozen=True)
class Doubled(nbbp.Dense):
    """A layer that another process may not know."""


def test_layers_of_ones_own_come_back(tmp_path):
    model = nbbp.Sequential([Doubled(3)])
    model.build(2)
    model.save(tmp_path / "model")
    assert type(nbbp.load(tmp_path / "model").layers[0]) is Doubled


def test_a_layer_that_is_not_defined_is_named(tmp_path):
    arrays, description = {}, files.read(saved(tmp_path, nbbp.Sequential([nbbp.Dense(3)])))[1]
    description["layers"][0]["type"] = "Capsule"
    files.write(tmp_path / "other", arrays, description)
    with pytest.raises(nbbp.ModelFileError, match="unknown layer 'Capsule'; a class of your own"):
        nbbp.load(tmp_path / "other")


def saved(folder, model: nbbp.Sequential):
    model.save(folder / "model.safetensors")
    return folder / "model.safetensors"


def test_an_old_file_is_there_until_the_new_one_is(tmp_path, monkeypatch):
    path = saved(tmp_path, nbbp.Sequential([nbbp.Dense(3)]))
    before = path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left .*model.safetensors"):
        nbbp.Sequential([nbbp.Dense(4)]).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_missing_file_and_a_folder_are_errors_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        nbbp.load(tmp_path / "model")
    with pytest.raises(IsADirectoryError, match="load one of its files"):
        nbbp.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .* to write model into"):
        nbbp.Sequential([nbbp.Dense(3)]).save(tmp_path / "none" / "model")


def loading(content: bytes, path) -> bool:
    """Whether the file loads; any error but ModelFileError goes through, as does a run of more than a second."""
    path.write_bytes(content)
    begin = time.monotonic()
    try:
        nbbp.load(path)
    except nbbp.ModelFileError:
        return False
    finally:
        assert time.monotonic() - begin < 1
    return True


class Trap:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_files_that_are_no_models(content, tmp_path):
    header = int.from_bytes(content[:8], "little")
    wrong = {
        "empty": b"",
        "short": content[:7],
        "pickle": pickle.dumps(Trap()),
        "pickle with a header": (8).to_bytes(8, "little") + pickle.dumps(Trap()),
        "huge header": (2**63).to_bytes(8, "little") + content[8:],
        "deep JSON": (200_000).to_bytes(8, "little") + b"[" * 100_000 + b"]" * 100_000,
        "other safetensors": safetensors.numpy.save({"w": np.zeros(3)}),
        "integers": safetensors.numpy.save({"w": np.zeros(3, int)}, {"nbbp": '{"format_version": 1}'}),
        "later format": content.replace(rb"\"format_version\": 1", rb"\"format_version\": 2"),
        "trailing bytes": content + b"0",
        "no weights": content[: 8 + header],
    }
    for name, given in wrong.items():
        assert not loading(given, tmp_path / "model"), name


def rewritten(content: bytes, change) -> bytes:
    """The same arrays, with an entry that `change` has made of the file's own."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    entry = change(json.loads(header["__metadata__"]["nbbp"]))
    return safetensors.numpy.save(safetensors.numpy.load(content), {"nbbp": json.dumps(entry)})


def test_a_file_names_the_version_that_wrote_it(content, tmp_path):
    path = tmp_path / "model"
    assert rewritten(content, lambda entry: entry | {"nbbp_version": nbbp.__version__}) == content
    assert loading(rewritten(content, lambda entry: {k: v for k, v in entry.items() if k != "nbbp_version"}), path)
    assert loading(rewritten(content, lambda entry: entry | {"nbbp_version": "9.8.7"}), path)
    path.write_bytes(rewritten(content, lambda entry: entry | {"nbbp_version": "9.8.7", "format_version": 2}))
    message = f"is of format 2, written by nbbp 9.8.7; nbbp {nbbp.__version__} reads 1"
    with pytest.raises(nbbp.ModelFileError, match=re.escape(message)):
        nbbp.load(path)
    path.write_bytes(rewritten(content, lambda entry: {"format_version": 0, "description": {}, "sha256": ""}))
    with pytest.raises(nbbp.ModelFileError, match=re.escape(f"is of format 0; nbbp {nbbp.__version__} reads 1")):
        nbbp.load(path)


def test_a_flipped_weight_is_noticed(content, tmp_path):
    header = int.from_bytes(content[:8], "little")
    for k in np.random.default_rng(0).integers(8 + header, len(content), 50):
        flipped = bytearray(content)
        flipped[k] ^= 1
        assert not loading(bytes(flipped), tmp_path / "model")


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped, bytes overwritten, cut off, doubled or put elsewhere, more often than not in the header."""
    header = 8 + int.from_bytes(content[:8], "little")
    result = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        k = int(rng.integers(0, max(1, len(result) if rng.random() < 0.3 else min(header, len(result)))))
        kind = rng.integers(0, 5)
        if kind == 0 and result:
            result[k] ^= 1 << rng.integers(0, 8)
        elif kind == 1:
            result[k : k + 4] = rng.bytes(4)
        elif kind == 2:
            del result[k:]
        elif kind == 3:
            result[k:k] = result[k : k + int(rng.integers(1, 64))]
        elif digits := [i for i, byte in enumerate(result[8:header], 8) if 48 <= byte < 58]:
            result[rng.choice(digits)] = 48 + rng.integers(0, 10)
    return bytes(result)


EXTREMES = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**62,
    10**30,
    -1.5,
    1e308,
    "",
    "relu",
    "Dense",
    [],
    [[]],
    {},
    {"type": "Adam"},
]


def twisted(value, rng: np.random.Generator):
    """A description in which something is not what it was, lost or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = str(rng.choice(list(value)))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: twisted(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        k = int(rng.integers(len(value)))
        if rng.random() < 0.1:
            return value + value[k:]
        return [*value[:k], twisted(value[k], rng), *value[k + 1 :]]
    if isinstance(value, int) and rng.random() < 0.5:
        return value + int(rng.integers(-2, 3))
    return EXTREMES[rng.integers(len(EXTREMES))]


def sealed(content: bytes, rng: np.random.Generator, path) -> bytes:
    """A file with a right digest around a twisted description, or around other arrays."""
    path.write_bytes(content)
    arrays, description = files.read(path)
    if rng.random() < 0.2:
        name = str(rng.choice(list(arrays)))
        changed = [arrays[name].T, arrays[name].reshape(-1), arrays[name].astype(np.float32), np.zeros((0, 5))]
        arrays[name] = np.ascontiguousarray(changed[rng.integers(4)])
    else:
        description = json.loads(json.dumps(twisted(description, rng)))
    if isinstance(description, dict):
        files.write(path, arrays, description)
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["content", "graph_content"])
def test_mutated_files_load_or_are_refused(kind, count, request, tmp_path):
    content = request.getfixturevalue(kind)
    rng = np.random.default_rng(count)
    loaded = 0
    tracemalloc.start()
    try:
        for k in range(count):
            given = sealed(content, rng, tmp_path / "sealed") if k % 3 == 0 else damaged(content, rng)
            loaded += loading(given, tmp_path / "model")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0 < loaded < count
    assert peak < 50e6
    print(f"{count} mutated files: {loaded} loaded, {count - loaded} refused, at most {peak / 1e6:.1f} MB")


def test_a_file_has_the_mode_of_the_umask_which_is_never_changed(tmp_path, monkeypatch):
    mask = os.umask(0o027)
    try:
        with monkeypatch.context() as patched:
            patched.delattr(os, "umask")  # it belongs to all threads
            files.replace(tmp_path / "file", b"content")
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(mask)


def test_layers_nested_deeply_take_no_time(tmp_path):
    layer: nbbp.Layer = nbbp.Dense(3)
    for _ in range(40):
        layer = nbbp.Residual([layer])
    model = nbbp.Sequential([layer], backend="numpy")
    model.build(3)
    model.save(tmp_path / "model")
    begin = time.perf_counter()
    again = pickle.loads(pickle.dumps(nbbp.load(tmp_path / "model")))
    assert time.perf_counter() - begin < 10
    assert np.array_equal(again.predict(np.ones((2, 3))), model.predict(np.ones((2, 3))))
