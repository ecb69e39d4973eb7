"""Conv2D: the same weights at every window of an image."""

import dataclasses

from nbbp.engine.layer import Spec
from nbbp.layers.convolution import Convolution
from nbbp.layers.flatten import Flatten
from nbbp.layers.reshape import as_image
from nbbp.layers.window_products import products
from nbbp.layers.windows import Windows, over, refuse_mask


@dataclasses.dataclass(frozen=True)
class Conv2D(Convolution):
    """A convolution, activation(sum over a window of x . w, plus b), at every window of an image.

    Samples are (height, width, channels), outputs (windows below each other, windows beside each other, filters), and
    w is (height, width, channels of a group, filters), all as in Keras; PyTorch has channels first, and w as (filters,
    channels, height, width). LeCun et al., "Backpropagation applied to handwritten zip code recognition", 1989.

    Parameters
    ----------
    filters : int
        The number of outputs at each window.
    kernel_size : int or (int, int)
        The height and width of a window.
    strides : int or (int, int)
        The number of rows and columns from one window to the next.
    padding : str, int, or a sequence
        "valid" for none; "same" for zeros all around so that there are ceil(length / stride) windows along each axis,
        with the odd row below and the odd column on the right, as in TensorFlow; or the number of zeros on each side,
        as in PyTorch, one for all, one for each axis, or (before, after) for each.
    activation : str
        The name of the function that is applied to the result, one of `nbbp.ACTIVATIONS`.
    use_bias : bool
        Whether each filter has a bias, which starts at zero.
    dilation_rate : int or (int, int)
        The number of rows and columns from one element of a window to the next.
    groups : int
        The channels and the filters are cut into so many groups, and each group of filters sees its own channels alone;
        with as many groups as channels, the convolution is depthwise.
    initializer, l1, l2, max_norm
        As in `nbbp.Dense`.
    """

    @classmethod
    def example(cls, x):
        return Flatten()(cls(4, (2, 3), 2, "same", activation="tanh", l2=0.01)(as_image(x)))

    def windows(self, shape) -> Windows:
        """The windows of samples of this shape."""
        name = type(self).__name__
        return over(name, shape, self.kernel_size, self.strides, self.padding, self.dilation_rate, self.axes)

    def spec(self, shape):
        windows = self.windows(shape)
        self.check_groups(shape[-1], self.filters)
        return Spec((*windows.outputs, self.filters), self.weights(shape[-1], self.filters))

    def forward(self, b):
        refuse_mask(self, b)
        shape = b.x.shape[1:]
        b.products = products(b, self.windows(shape), shape[-1], self.filters, self.groups)
        b.products.to_small(b.y, b.x, b.p.w, self.bias(b, self.filters))

    def backward(self, b):
        b.products.to_weights(b.g.w, b.x, b.dy)
        if self.use_bias:
            b.sum_rows(b.g.b, b.dy.reshape(-1, self.filters))
        if b.dx is not None:
            b.products.to_large(b.dx, b.dy, b.p.w, b.buffer(b.x.shape[-1]))
