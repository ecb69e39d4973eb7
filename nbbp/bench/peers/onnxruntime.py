"""onnxruntime, which only predicts."""

import numpy as np

from nbbp.bench.convolutions import ConvolutionPrediction
from nbbp.bench.sequences import Steps
from nbbp.bench.workloads import Prediction


def _prediction(model, x: np.ndarray):
    """A function that returns what the model makes of x."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})[0]


def prepare_prediction(prediction: Prediction):
    from onnx import TensorProto, helper, numpy_helper

    (w1, b1), (w2, b2) = prediction.weights()
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 784])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(a, name) for name, a in (("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return _prediction(model, prediction.data())


def prepare_steps(steps: Steps):
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    w, u, b, dense, bias = steps.weights()
    gates = [np.split(a.T, 4) for a in (w, u, b)]  # i, f, g, o; in ONNX i, o, f, g
    of_x, of_h, sums = (np.concatenate([i, o, f, g])[np.newaxis] for i, f, g, o in gates)
    arrays = {"w": of_x, "r": of_h, "b": np.concatenate([sums, 0 * sums], axis=1), "dense": dense, "bias": bias}
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["", "h1", "c1"], hidden_size=steps.units),
        helper.make_node("MatMul", ["h1", "dense"], ["z"]),
        helper.make_node("Add", ["z", "bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "h", "c")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "h1", "c1")],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    data = steps.data()

    def predict() -> np.ndarray:
        h = c = np.zeros((1, 1, steps.units), np.float32)
        for x in data:
            y, h, c = session.run(None, {"x": x, "h": h, "c": c})
        return y

    return predict


def prepare_convolution_prediction(prediction: ConvolutionPrediction):
    from nbbp.bench.networks.onnx import model

    samples = np.ascontiguousarray(np.moveaxis(prediction.data(), -1, 1))
    return _prediction(model(prediction.network, prediction.network.weights()), samples)
