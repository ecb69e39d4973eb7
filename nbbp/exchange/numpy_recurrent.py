"""Lines of NumPy for recurrent layers."""

from nbbp.engine.node import Node
from nbbp.layers.gru import GRU
from nbbp.layers.lstm import LSTM
from nbbp.layers.recurrent import Recurrent
from nbbp.layers.simple_rnn import SimpleRNN

FUNCTIONS: dict[type[Recurrent], str] = {SimpleRNN: "_rnn", GRU: "_gru", LSTM: "_lstm"}


def recurrent(node: Node, p: dict[str, str], y: str, x: str, *states: str) -> list[str]:
    layer: Recurrent = node.layer  # type: ignore[assignment]
    arguments = [x, *p.values()]
    if states:
        arguments.append(f"first=[{', '.join(states)}]")
    if layer.backwards:
        arguments.append("backwards=True")
    if isinstance(layer, GRU) and not layer.reset_after:
        arguments.append("reset_after=False")
    if isinstance(layer, SimpleRNN) and layer.activation == "relu":
        arguments.append("activation=lambda x: np.maximum(x, 0)")
    call = f"{FUNCTIONS[type(layer)]}({', '.join(arguments)})"
    if not layer.return_state:
        return [f"{y} = {call}[{0 if layer.return_sequences else 1}]"]
    outputs = y.split(", ")
    return [f"{y} = {call}", *([] if layer.return_sequences else [f"{outputs[0]} = {outputs[1]}"])]
