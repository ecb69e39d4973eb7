"""Conv2DTranspose: a convolution from its windows back to an image."""

import dataclasses

from nbbp.engine.layer import Spec
from nbbp.layers.conv2d import Conv2D
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import as_image
from nbbp.layers.window_products import products
from nbbp.layers.windows import Windows, check_padding, each_axis, over, positions, refuse_mask


@dataclasses.dataclass(frozen=True)
class Conv2DTranspose(Conv2D):
    """A transposed convolution: every element of an image is a window's worth of outputs, which are added.

    It is the gradient of the `nbbp.Conv2D` that takes an image of the output's size to one of the input's. Samples are
    (height, width, channels), and w is (height, width, filters of a group, channels), as in Keras; PyTorch's is
    (channels, filters, height, width). Zeiler et al., "Deconvolutional networks", 2010.

    Along each axis the output has ``length * stride`` positions with padding "same",
    ``length * stride + max(kernel_size - stride, 0)`` with "valid", as in Keras, and ``(length - 1) * stride +
    kernel_size`` less the padding with numbers, as in PyTorch; kernel_size counts with its dilation. The
    parameters are those of `nbbp.Conv2D`, but `max_norm` limits the weights of each input channel.
    """

    @classmethod
    def example(cls, x):
        return Flatten()(cls(2, (3, 2), (2, 1), activation="tanh")(as_image(x)))

    def windows(self, shape) -> Windows:
        """The windows of the convolution from the output to samples of this shape."""
        name = type(self).__name__
        size, strides, dilation = (
            each_axis(name, n, self.axes) for n in (self.kernel_size, self.strides, self.dilation_rate)
        )
        small = positions(name, shape, self.axes)
        padding = check_padding(name, self.padding, self.axes)
        reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
        if padding == "same":
            large = [n * s for n, s in zip(small, strides, strict=True)]
        elif isinstance(padding, str):
            large = [n * s + max(r - s, 0) for n, s, r in zip(small, strides, reach, strict=True)]
        else:
            large = [(n - 1) * s + r - a - b for n, s, r, (a, b) in zip(small, strides, reach, padding, strict=True)]
        if min(large) < 1:
            raise ValueError(f"{name}: the padding {self.padding} leaves nothing of the output; choose a smaller one")
        return over(name, (*large, self.filters), size, strides, self.padding, dilation, self.axes)

    def spec(self, shape):
        windows = self.windows(shape)
        self.check_groups(shape[-1], self.filters)
        return Spec((*windows.lengths, self.filters), self.weights(self.filters, shape[-1]))

    def forward(self, b):
        refuse_mask(self, b)
        shape = b.x.shape[1:]
        b.products = products(b, self.windows(shape), self.filters, shape[-1], self.groups)
        b.products.to_large(b.y, b.x, b.p.w, self.bias(b, self.filters))

    def backward(self, b):
        b.products.to_weights(b.g.w, b.dy, b.x)
        if self.use_bias:
            b.sum_rows(b.g.b, b.dy.reshape(-1, self.filters))
        if b.dx is not None:
            b.products.to_small(b.dx, b.dy, b.p.w, b.buffer(b.x.shape[-1]))
