"""Import from and export to other programs.

Weights are imported from PyTorch and Keras into a model of the same architecture, and exported to PyTorch; whole
networks are exported as ONNX, and as one Python file that needs nothing but NumPy.
"""

from nbbp.exchange.keras_weights import from_keras
from nbbp.exchange.numpy_file import to_numpy_file
from nbbp.exchange.onnx_file import to_onnx
from nbbp.exchange.torch_weights import from_torch, to_safetensors, to_torch_state_dict

__all__ = ["from_keras", "from_torch", "to_numpy_file", "to_onnx", "to_safetensors", "to_torch_state_dict"]
