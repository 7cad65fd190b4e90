"""The texture model: a filter bank, a nonlinearity, and the Gram matrix of the feature maps."""

import numpy as np

from .._kernels.gram import StripPlan
from .._validation import check_array, check_choice, check_image
from .bank import FilterBank
from .patches import check_images

IMAGENET_MEAN = np.array([123.0, 117.0, 104.0]) / 255
"""Mean red, green and blue of ImageNet in [0, 1], which the paper subtracts from every image."""

SIGMOID_GAIN = 20.0
"""Filter responses are multiplied by this before the sigmoid: to a standard deviation near 1.

The best of 5, 10, 20, 40, 80 on brick, gravel and grass; 10 and 40 are 1.0 to 2.3 times worse."""


class GramModel:
    """Gram matrices of one convolutional layer, as a description of a texture.

    The image minus ``mean`` is correlated with every filter of the bank (stride 1, no bias, output
    of the image's size), passed through the nonlinearity, and the N feature maps F, of M pixels
    each, are described by ``G = F F' / M``.

    Parameters
    ----------
    bank : FilterBank
        N filters of any sizes; its channel count is the images'.
    nonlinearity : {"relu", "sigmoid", "linear"}
        The sigmoid acts on `SIGMOID_GAIN` times the filter responses. With "relu" and "linear"
        the loss does not depend on their scale; with "sigmoid" it does, and the paper does not
        say what it was.
    padding : {"zero", "periodic", "reflect"}
        As `numpy.pad` "constant", "wrap" and "reflect". Periodic images can be tiled.
    mean : array_like, (C,), optional
        Subtracted from each channel before padding: `IMAGENET_MEAN` in the paper, the reference's
        own channel means in `synthesize`'s default model; nothing by default.

    Notes
    -----
    A call computes in the image's dtype and sums the loss in float64. Filters are transformed once
    per image size and dtype; the last one is kept, and up to 64 MiB of working memory with it.
    Results do not depend on the number of threads. Calls from several Python threads are safe.

    References
    ----------
    Ustyuzhaninov, Brendel, Gatys, Bethge, ICLR 2017, sections 2 and 3, eqs (1) and (5).

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import FilterBank, GramModel
    >>> model = GramModel(FilterBank.random(sizes=(3, 5), n_maps=4, rng=0))
    >>> image = np.random.default_rng(0).random((16, 16, 3))
    >>> model.gram(image).shape
    (8, 8)
    >>> model.loss(image, model.gram(image))
    0.0
    """

    def __init__(self, bank, nonlinearity="relu", padding="zero", mean=None):
        if not isinstance(bank, FilterBank):
            raise TypeError(
                f"bank must be a FilterBank; got {type(bank).__name__}. Pass FilterBank(filters)."
            )
        self.bank = bank
        self.nonlinearity = check_choice(
            nonlinearity, "nonlinearity", ("relu", "sigmoid", "linear")
        )
        self.padding = check_choice(padding, "padding", ("zero", "periodic", "reflect"))
        self.mean = None if mean is None else self._check_mean(mean)
        self._plan = None  # (key, StripPlan) of the last call

    def __repr__(self):
        return f"GramModel({self.bank!r}, {self.nonlinearity!r}, padding={self.padding!r})"

    def __getstate__(self):
        return {**self.__dict__, "_plan": None}  # a copy or another process makes its own

    @property
    def channels(self):
        """Channels of the images that the model takes."""
        return self.bank.channels

    def gram(self, image):
        """Gram matrix of the feature maps, eq (1).

        Parameters
        ----------
        image : array_like, (H, W, C) or (H, W)
            Values are usually in [0, 1]; uint8 is divided by 255.

        Returns
        -------
        ndarray, (N, N)
            Symmetric, of the image's dtype; maps in the order of the bank.
        """
        image = self._center(image)
        return self._plan_for(image, self.padding).gram(image)

    def target(self, images):
        """What `loss` compares with: the Gram matrix of an image, or its mean over several.

        Parameters
        ----------
        images : array_like, (H, W, C) or (H, W), or a sequence of such, or a stack (n, H, W, C)

        Returns
        -------
        ndarray, (N, N)
            For a periodic model the image is padded by reflection instead, because photographs
            do not tile.
        """
        single = hasattr(images, "ndim") and images.ndim < 4
        images = check_images([images] if single else images)
        padding = "reflect" if self.padding == "periodic" else self.padding
        total = 0.0
        for image in map(self._center, images):
            total = total + self._plan_for(image, padding).gram(image).astype(np.float64)
        return (total / len(images)).astype(np.result_type(*images))

    def loss(self, image, target):
        """Relative squared error of the Gram matrix, eq (5).

        Parameters
        ----------
        image : array_like, (H, W, C) or (H, W)
        target : array_like, (N, N)
            A Gram matrix, from `gram` or `target`. Not zero.

        Returns
        -------
        float
            ``sum((target - G)**2) / sum(target**2)``.
        """
        image = self._center(image)
        return self._plan_for(image, self.padding).loss(image, self._check_target(target, image))

    def loss_and_grad(self, image, target):
        """The loss (5) and its gradient by the image.

        Returns
        -------
        loss : float
        grad : ndarray, of the image's shape and dtype
        """
        shape = np.shape(image)
        image = self._center(image)
        plan = self._plan_for(image, self.padding)
        loss, grad = plan.loss_and_grad(image, self._check_target(target, image))
        return loss, grad.reshape(shape)

    def gram_vjp(self, image, d_gram):
        """Gradient by the image of ``sum(d_gram * gram(image))``, as an array like the image."""
        shape = np.shape(image)
        image = self._center(image)
        d_gram = self._check_square(d_gram, "d_gram").astype(image.dtype, copy=False)
        return self._plan_for(image, self.padding).gram_vjp(image, d_gram).reshape(shape)

    def _center(self, image):
        image = check_image(image, channels=self.channels)
        return image if self.mean is None else image - self.mean.astype(image.dtype)

    def _plan_for(self, image, padding):
        key = (self.bank, self.nonlinearity, padding, image.shape[:2], image.dtype)
        plan = self._plan
        if plan is None or plan[0] != key:
            filters = self._scaled_filters(image.dtype)
            plan = key, StripPlan(filters, image.shape[:2], self.nonlinearity, padding)
            self._plan = plan
        return plan[1]

    def _scaled_filters(self, dtype):
        """The filters as the nonlinearity wants them."""
        gain = SIGMOID_GAIN if self.nonlinearity == "sigmoid" else 1
        return [(gain * w).astype(dtype, copy=False) for w in self.bank.filters]

    def _check_mean(self, mean):
        mean = check_array(np.atleast_1d(mean), "mean", ndim=1, axes="(channels,)")
        if len(mean) != self.channels:
            raise ValueError(
                f"mean must have one value for each of {self.channels} channel(s); "
                f"got {len(mean)}."
            )
        return mean

    def _check_square(self, array, name):
        n = len(self.bank)
        array = check_array(array, name, ndim=2, axes="(N, N)")
        if array.shape != (n, n):
            raise ValueError(
                f"{name} must have shape ({n}, {n}), one row for each map of the bank; "
                f"got {array.shape}."
            )
        return array

    def _check_target(self, target, image):
        target = self._check_square(target, "target")
        target = check_array(target.astype(image.dtype, copy=False), "target")
        if not target.any():
            raise ValueError(
                "target must not be zero: the loss is relative to it. "
                "Was the reference constant and equal to the mean?"
            )
        return target
