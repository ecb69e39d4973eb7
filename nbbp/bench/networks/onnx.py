"""A network as the ONNX model that PyTorch exports: samples (channels, *positions), and probabilities."""

from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

import nbbp
from nbbp.bench.networks import Network, Weights, channels_first

ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh"}


def _nodes(layer, shape):
    """The operators for a layer of nbbp and the shape of its input, with their attributes; the first has the weights.

    The other inputs of the first are the layer's arrays in their order.
    """
    match layer:
        case nbbp.Conv2D():
            windows = layer.windows(shape)
            pads = [*(before for before, _ in windows.padding), *(after for _, after in windows.padding)]
            nodes = [("Conv", {"kernel_shape": windows.size, "strides": windows.strides, "pads": pads})]
        case nbbp.Dense():
            nodes = [("Gemm", {"transB": 1})]
        case nbbp.BatchNorm():
            nodes = [("BatchNormalization", {"epsilon": layer.epsilon})]
        case nbbp.MaxPool2D():
            nodes = [("MaxPool", {"kernel_shape": layer.pool_size, "strides": layer.pool_size})]
        case nbbp.GlobalAveragePool():
            nodes = [("GlobalAveragePool", {}), ("Flatten", {})]
        case nbbp.Flatten():
            nodes = [("Flatten", {})]
        case nbbp.Activation():
            nodes = [(ACTIVATIONS[layer.name], {})]
        case _:
            raise NotImplementedError(layer)
    activation = getattr(layer, "activation", "linear")
    return nodes if activation == "linear" else [*nodes, (ACTIVATIONS[activation], {})]


def model(network: Network, weights: Weights) -> ModelProto:
    """The network with these weights, from `x` to `p`."""
    nodes: list[NodeProto] = []
    arrays: list[TensorProto] = []
    value = "x"
    for (layer, shape, _), own in zip(network.specs(), channels_first(network, weights), strict=True):
        named = {f"{len(nodes)}.{name}": array for name, array in own.items()}
        arrays += [numpy_helper.from_array(array, name) for name, array in named.items()]
        for k, (kind, attributes) in enumerate(_nodes(layer, shape)):
            output = str(len(nodes))
            nodes.append(helper.make_node(kind, [value, *named] if k == 0 else [value], [output], **attributes))
            value = output
    nodes.append(helper.make_node("Softmax", [value], ["p"], axis=1))
    sample = [network.shape[-1], *network.shape[:-1]]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *sample])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", None])],
        arrays,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
