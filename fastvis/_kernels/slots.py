"""Named arrays in one vector."""

import math


class Slots:
    """Where arrays of given shapes lie in one vector, one behind the other.

    >>> import numpy as np
    >>> slots = Slots({"mean": (2,), "factor": (2, 2)})
    >>> slots.size, slots.start("factor")
    (6, 2)
    >>> slots.views(np.arange(6.0))["factor"]
    array([[2., 3.],
           [4., 5.]])
    """

    def __init__(self, shapes):
        self._slots, self.size = {}, 0
        for name, shape in shapes.items():
            self._slots[name] = self.size, shape
            self.size += math.prod(shape)

    def start(self, name):
        return self._slots[name][0]

    def views(self, vector):
        """A dict of views of a vector (size,), or of several (..., size)."""
        return {
            name: vector[..., start : start + math.prod(shape)].reshape(*vector.shape[:-1], *shape)
            for name, (start, shape) in self._slots.items()
        }
