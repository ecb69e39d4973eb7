"""onnxruntime, which only predicts."""

import numpy as np

from nbbp.bench.convolutions import ConvolutionPrediction
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


def prepare_convolution_prediction(prediction: ConvolutionPrediction):
    from nbbp.bench.networks.onnx import model

    samples = np.ascontiguousarray(np.moveaxis(prediction.data(), -1, 1))
    return _prediction(model(prediction.network, prediction.network.weights()), samples)
