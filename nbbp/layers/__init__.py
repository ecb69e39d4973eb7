"""The layers: each has a line here, which adds it to `LAYERS` under the name of its file."""

from nbbp.engine.layer import Layer as Layer
from nbbp.engine.layer import Parameter as Parameter
from nbbp.engine.layer import Spec as Spec
from nbbp.layers.activation import Activation as Activation
from nbbp.layers.add import Add as Add
from nbbp.layers.attention import Attention as Attention
from nbbp.layers.average_pool1d import AveragePool1D as AveragePool1D
from nbbp.layers.average_pool2d import AveragePool2D as AveragePool2D
from nbbp.layers.batch_norm import BatchNorm as BatchNorm
from nbbp.layers.bidirectional import Bidirectional as Bidirectional
from nbbp.layers.clamp import Clamp as Clamp
from nbbp.layers.column_embedding import ColumnEmbedding as ColumnEmbedding
from nbbp.layers.concatenate import Concatenate as Concatenate
from nbbp.layers.conv1d import Conv1D as Conv1D
from nbbp.layers.conv1d_transpose import Conv1DTranspose as Conv1DTranspose
from nbbp.layers.conv2d import Conv2D as Conv2D
from nbbp.layers.conv2d_transpose import Conv2DTranspose as Conv2DTranspose
from nbbp.layers.crop2d import Crop2D as Crop2D
from nbbp.layers.dense import Dense as Dense
from nbbp.layers.dropout import Dropout as Dropout
from nbbp.layers.embedding import Embedding as Embedding
from nbbp.layers.feature_tokens import FeatureTokens as FeatureTokens
from nbbp.layers.flatten import Flatten as Flatten
from nbbp.layers.gaussian_noise import GaussianNoise as GaussianNoise
from nbbp.layers.global_average_pool import GlobalAveragePool as GlobalAveragePool
from nbbp.layers.global_max_pool import GlobalMaxPool as GlobalMaxPool
from nbbp.layers.group_norm import GroupNorm as GroupNorm
from nbbp.layers.gru import GRU as GRU
from nbbp.layers.layer_norm import LayerNorm as LayerNorm
from nbbp.layers.lstm import LSTM as LSTM
from nbbp.layers.max_pool1d import MaxPool1D as MaxPool1D
from nbbp.layers.max_pool2d import MaxPool2D as MaxPool2D
from nbbp.layers.member_dense import MemberDense as MemberDense
from nbbp.layers.members import Members as Members
from nbbp.layers.multi_head_attention import MultiHeadAttention as MultiHeadAttention
from nbbp.layers.multiply import Multiply as Multiply
from nbbp.layers.parametric_activation import ParametricActivation as ParametricActivation
from nbbp.layers.periodic_embedding import PeriodicEmbedding as PeriodicEmbedding
from nbbp.layers.positional_embedding import PositionalEmbedding as PositionalEmbedding
from nbbp.layers.random_crop import RandomCrop as RandomCrop
from nbbp.layers.random_flip import RandomFlip as RandomFlip
from nbbp.layers.random_shift import RandomShift as RandomShift
from nbbp.layers.rescale import Rescale as Rescale
from nbbp.layers.reshape import Reshape as Reshape
from nbbp.layers.residual import Residual as Residual
from nbbp.layers.rotary_positions import RotaryPositions as RotaryPositions
from nbbp.layers.scale import Scale as Scale
from nbbp.layers.simple_rnn import SimpleRNN as SimpleRNN
from nbbp.layers.spatial_dropout import SpatialDropout as SpatialDropout
from nbbp.layers.take_first import TakeFirst as TakeFirst
from nbbp.layers.tied_dense import TiedDense as TiedDense
from nbbp.layers.transformer_block import TransformerBlock as TransformerBlock
from nbbp.layers.up_sample2d import UpSample2D as UpSample2D
from nbbp.layers.zero_pad2d import ZeroPad2D as ZeroPad2D

LAYERS: dict[str, type[Layer]] = {
    kind.__module__.rpartition(".")[2]: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Layer) and kind is not Layer
}
