"""Graphs of nodes as files, pickles and copies; descriptions that are no graphs."""

import time

import numpy as np
import pytest

import nbbp
from nbbp.storage import files


def network(form: str = "dict", **settings) -> nbbp.Model:
    """A layer that is called twice, a block with a projection, several inputs and outputs with positions."""
    x, codes = nbbp.Input((3, 4), name="x"), nbbp.Input((3, 2), "int32")
    shared = nbbp.Dense(4, "tanh", l2=0.01)
    h = nbbp.Concatenate()(shared(x), shared(nbbp.Dense(4)(nbbp.ColumnEmbedding({0: 3}, dimension=2)(codes))))
    h = nbbp.Residual([nbbp.Dense(6, "relu"), nbbp.BatchNorm(), nbbp.Dropout(0.2)])(h)
    ends = [nbbp.Dense(3)(h), nbbp.Multiply()(nbbp.Dense(2)(h), nbbp.Dense(2, "sigmoid")(h))]
    each = {"outputs": ends, "loss": ["softmax_cross_entropy", "huber"], "loss_weights": [1.0, 0.25]}
    inputs: list | dict = [x, codes]
    if form == "dict":
        inputs = {"measured": x, "coded": codes}
        each = {name: dict(zip(("kind", "size"), things, strict=True)) for name, things in each.items()}
        each["metrics"] = {"kind": ["accuracy"], "size": ["mae", "r2"]}
    return nbbp.Model(inputs, **each, **{"optimizer": "adam", "averaging": nbbp.EMA(0.9), "seed": 4} | settings)


def data(form: str = "dict", rows: int = 23) -> tuple:
    rng = np.random.default_rng(2)
    X = [rng.standard_normal((rows, 3, 4)), rng.integers(0, 3, (rows, 3, 2)).astype(np.int32)]
    y = [rng.integers(0, 3, (rows, 3)), rng.standard_normal((rows, 3, 2))]
    if form == "dict":
        return dict(zip(("measured", "coded"), X, strict=True)), dict(zip(("kind", "size"), y, strict=True))
    return X, y


def saved(model: nbbp.Model, folder) -> nbbp.Model:
    model.save(folder / "model.safetensors")
    return nbbp.load(folder / "model.safetensors")


def listed(packed) -> list[np.ndarray]:
    return list(packed.values()) if isinstance(packed, dict) else packed


@pytest.mark.parametrize("form", ["list", "dict"])
def test_a_graph_goes_on_where_it_stopped(form, tmp_path):
    X, y = data(form)
    model = network(form)
    nbbp.prune(model, 0.2)
    model.fit(X, y, epochs=2, batch_size=8, verbose=0)
    twin = saved(saved(model, tmp_path), tmp_path)
    assert type(twin.predict(X)) is type(model.predict(X))
    assert [z.tobytes() for z in listed(twin.predict(X))] == [z.tobytes() for z in listed(model.predict(X))]
    assert twin.evaluate(X, y) == model.evaluate(X, y)
    histories = [one.fit(X, y, epochs=2, batch_size=8, verbose=0) for one in (model, twin)]
    assert histories[0].epochs == histories[1].epochs
    assert twin.named_params().keys() == model.named_params().keys()
    for get in (lambda m: m.params, lambda m: m.network.state, lambda m: m.averaged().params, lambda m: m.update.mean):
        assert get(twin).tobytes() == get(model).tobytes()
    assert (twin.params == 0).any()


def test_a_fit_of_a_graph_is_resumed(tmp_path):
    X, y = data()
    whole, parts = network(), network()
    whole.fit(X, y, epochs=3, batch_size=8, verbose=0)
    for epochs in (1, 3):
        parts = network()
        callbacks = [nbbp.Checkpoint(tmp_path)]
        history = parts.fit(X, y, epochs=epochs, batch_size=8, verbose=0, callbacks=callbacks, resume=tmp_path)
    assert len(history) == 3
    assert parts.params.tobytes() == whole.params.tobytes()


@pytest.mark.parametrize("form", ["list", "dict"])
def test_settings_of_a_graph_come_back(form, tmp_path):
    model = network(form, label_smoothing=0.0, dtype="float64", backend="numpy", optimizer=nbbp.SGD(0.1, momentum=0.5))
    loaded = saved(model, tmp_path)
    assert (loaded.loss, loaded.optimizer, loaded.averaging) == (model.loss, model.optimizer, model.averaging)
    assert (loaded.dtype, loaded.backend, loaded.seed) == (np.float64, "numpy", 4)
    assert [*loaded.evaluate(*data(form))] == [*model.evaluate(*data(form))]
    assert [edge.name for edge in loaded.network.graph.inputs] == ["x", None]
    assert loaded.summary() == model.summary()


def test_loaded_graphs_are_built_on(tmp_path):
    """New nodes stand beside those of files, and all have names of their own."""
    x = nbbp.Input(3)
    hidden = nbbp.Residual([nbbp.Dense(2)])(nbbp.Dense(2, "tanh")(x))
    model = nbbp.Model(x, nbbp.Dense(2)(hidden), backend="numpy")
    bases = [saved(model, tmp_path) for _ in range(2)]
    edges = [base.outputs.given for base in bases]
    h = nbbp.Residual([nbbp.Dense(4)])(nbbp.Concatenate()(*edges))
    both = nbbp.Model([base.inputs.given for base in bases], nbbp.Dense(1)(h), backend="numpy")
    sizes = [base.params.size for base in bases]
    assert both.params.size == sum(sizes) + (4 + 1) * 4 + 4 + 1
    assert sum(array.size for array in both.named_params().values()) == both.params.size
    assert {"residual_0.dense_0.w", "dense_1.b", "residual_1.dense_0.w"} < both.named_params().keys()
    twin = saved(both, tmp_path)
    assert twin.named_params().keys() == both.named_params().keys()
    X = [np.ones((4, 3)), np.zeros((4, 3))]
    assert np.array_equal(twin.predict(X), both.predict(X))


def test_a_deep_graph_is_saved(tmp_path):
    h = x = nbbp.Input(3)
    for _ in range(3000):
        h = nbbp.Activation("tanh")(h)
    model = nbbp.Model(x, nbbp.Dense(1)(h), backend="numpy")
    assert np.array_equal(saved(model, tmp_path).params, model.params)


def test_names_are_strings():
    x = nbbp.Input(3)
    for names in (0, "", ("a", "b"), None):
        with pytest.raises(TypeError, match=r"an output has a string for its name, got"):
            nbbp.Model(x, {names: nbbp.Dense(2)(x)})
        with pytest.raises(TypeError, match=r"an input has a string for its name, got"):
            nbbp.Model({names: x}, nbbp.Dense(2)(x))


def hostile() -> dict:
    """Changes of a graph's description, by what they are."""

    def node(number, **changed):
        return lambda graph: graph["nodes"][number].update(changed)

    def rename(node, name):
        return lambda graph: graph["nodes"][node].update(name=name)

    def each(names):
        return lambda graph: graph["outputs"].update(names=names)

    many = [{"layer": 0, "inputs": [[5_001 - k, 0]], "name": f"more_{k}"} for k in range(5_000)]
    return {
        "a circle": node(0, inputs=[[2, 0]]),
        "a circle of two": lambda graph: (node(1, inputs=[[4, 0]])(graph), node(2, inputs=[[3, 0]])(graph)),
        "an edge of a later node": node(3, inputs=[[11, 0]]),
        "an edge that is not there": node(3, inputs=[[10**30, 0]]),
        "an edge before the first": node(3, inputs=[[-1, 0]]),
        "an output that is not there": node(3, inputs=[[0, 1]]),
        "no number": node(3, inputs=[["0", 0]]),
        "a truth": node(3, inputs=[[True, 0]]),
        "a fraction": node(3, inputs=[[0.0, 0]]),
        "an edge without an output": node(3, inputs=[[0]]),
        "no inputs": node(3, inputs=[]),
        "an edge alone": node(3, inputs=[0, 0]),
        "inputs that are text": node(3, inputs="00"),
        "too many inputs": node(0, inputs=[[0, 0]] * 3),
        "a layer that is not there": node(3, layer=99),
        "a layer from the end": node(3, layer=-1),
        "a layer by name": node(3, layer="Dense"),
        "an unknown layer": lambda graph: graph["layers"][0].update(type="Convolution"),
        "a layer without a type": lambda graph: graph["layers"].__setitem__(0, {"units": 3}),
        "a layer that is none": lambda graph: graph["layers"].__setitem__(0, {"type": "Adam"}),
        "a node without a name": lambda graph: graph["nodes"][0].pop("name"),
        "a name that is a number": rename(0, 7),
        "a name that is a list": rename(0, ["dense_0"]),
        "no name": rename(0, ""),
        "a name of dots": rename(0, "dense_0..w"),
        "a name with quotes": rename(0, '"""\nraise SystemExit'),
        "a name that is there twice": rename(0, "dense_1"),
        "nodes that are a dict": lambda graph: graph.update(nodes={"0": graph["nodes"][0]}),
        "no nodes": lambda graph: graph.update(nodes=[]),
        "a node that is text": lambda graph: graph["nodes"].__setitem__(0, "Dense"),
        "names of outputs that are numbers": each([1, 2]),
        "names of outputs that are none": each([None, "size"]),
        "names of outputs that are lists": each([["kind"], ["size"]]),
        "names of outputs that are empty": each(["", "size"]),
        "names of outputs that are one": each(["kind", "kind"]),
        "too few names": each(["kind"]),
        "names of inputs that are numbers": lambda graph: graph["inputs"].update(names=[1, 2]),
        "no inputs at all": lambda graph: graph.update(inputs={"list": []}),
        "no form of inputs": lambda graph: graph.update(inputs={}),
        "an input that is a layer": lambda graph: graph["inputs"]["things"].__setitem__(0, {"type": "Dense"}),
        "an input of no shape": lambda graph: graph["inputs"]["things"][0].update(input=None),
        "an input of text": lambda graph: graph["inputs"]["things"][0].update(input="34"),
        "an input of no length": lambda graph: graph["inputs"]["things"][0].update(input=[3, 0]),
        "an input of more than there is": lambda graph: graph["inputs"]["things"][0].update(input=[3, 10**15]),
        "an input of another dtype": lambda graph: graph["inputs"]["things"][0].update(dtype="complex128"),
        "an input of objects": lambda graph: graph["inputs"]["things"][0].update(dtype="O"),
        "an input with a number for a name": lambda graph: graph["inputs"]["things"][0].update(name=3),
        "thousands of nodes in circles": lambda graph: graph.update(nodes=many),
        "thousands of nodes of one name": lambda graph: row_of(graph, 5_000, "dense_0"),
        "thousands of nodes with parameters": lambda graph: row_of(graph, 5_000),
        "widths that double": doubled,
    }


def row_of(graph: dict, count: int, name: str | None = None) -> None:
    """One node after another on the way to an output, each with a layer of its own."""
    before, begin = graph["outputs"]["things"][0], len(graph["nodes"]) + 2
    for k in range(count):
        graph["layers"].append({"type": "LayerNorm"})
        source = [begin + k - 1, 0] if k else before
        node = {"layer": len(graph["layers"]) - 1, "inputs": [source], "name": name or f"more_{k}"}
        graph["nodes"].append(node)
    graph["outputs"]["things"][0] = [begin + count - 1, 0]


def doubled(graph: dict) -> None:
    """Concatenations of the one before with itself, of which the last has 2^60 features."""
    before, begin = graph["outputs"]["things"][0], len(graph["nodes"]) + 2
    graph["layers"] += [{"type": "Concatenate"}, {"type": "Dense", "units": 3}]
    for k in range(60):
        source = [begin + k - 1, 0] if k else before
        graph["nodes"].append({"layer": len(graph["layers"]) - 2, "inputs": [source, source], "name": f"more_{k}"})
    last = {"layer": len(graph["layers"]) - 1, "inputs": [[begin + 59, 0]], "name": "last"}
    graph["nodes"].append(last)
    graph["outputs"]["things"][0] = [begin + 60, 0]


@pytest.mark.parametrize("what", hostile())
def test_what_is_no_graph_is_refused(what, tmp_path):
    model = network()
    path = tmp_path / "model"
    model.save(path)
    arrays, description = files.read(path)
    hostile()[what](description["graph"])
    files.write(path, arrays, description)
    begin = time.monotonic()
    with pytest.raises(nbbp.ModelFileError, match="does not describe a model that can be built here"):
        nbbp.load(path)
    assert time.monotonic() - begin < 3


def test_a_graph_of_columns_that_had_another_name_loads(tmp_path):
    """In files before 0.2 a ColumnEmbedding is an Embedding; its nodes keep their names."""
    model, path = network(), tmp_path / "model"
    model.save(path)
    arrays, description = files.read(path)
    (layer,) = [layer for layer in description["graph"]["layers"] if layer["type"] == "ColumnEmbedding"]
    (node,) = [node for node in description["graph"]["nodes"] if node["name"] == "columnembedding_0"]
    layer["type"], node["name"] = "Embedding", "embedding_0"
    arrays["embedding_0.table_0"] = arrays.pop("columnembedding_0.table_0")
    files.write(path, arrays, description)
    loaded = nbbp.load(path)
    np.testing.assert_array_equal(loaded.named_params()["embedding_0.table_0"], arrays["embedding_0.table_0"])
    assert loaded.params.tobytes() == model.params.tobytes()


def test_thousands_of_nodes_load(tmp_path):
    """As many as a file describes, in a time that grows with their number alone."""
    x = nbbp.Input(3)
    model = nbbp.Model(x, {"end": nbbp.Dense(2)(x)}, backend="numpy")
    model.save(tmp_path / "model")
    arrays, description = files.read(tmp_path / "model")
    layers, nodes = description["graph"]["layers"], description["graph"]["nodes"]
    layers.append({"type": "Add"})
    nodes += [{"layer": 1, "inputs": [[k + 1, 0], [1, 0]], "name": f"add_{k}"} for k in range(5000)]
    description["graph"]["outputs"]["things"] = [[5001, 0]]
    files.write(tmp_path / "model", arrays, description)
    begin = time.monotonic()
    assert len(nbbp.load(tmp_path / "model").network.graph.nodes) == 5001
    assert time.monotonic() - begin < 3
