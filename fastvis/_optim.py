"""Adam, for fits in NumPy that take the published schedules."""

import numpy as np


class Adam:
    """Kingma and Ba, ICLR 2015, algorithm 1: ``x += adam.step(gradient)``.

    >>> adam, x = Adam(0.1), np.array([3.0])
    >>> for _ in range(200):
    ...     x += adam.step(2 * x)
    >>> bool(abs(x[0]) < 0.01)
    True
    """

    def __init__(self, learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8):
        self.learning_rate = learning_rate
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.m = self.v = 0.0
        self.t = 0

    def step(self, gradient):
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * gradient
        self.v = self.beta2 * self.v + (1 - self.beta2) * gradient**2
        m = self.m / (1 - self.beta1**self.t)
        v = self.v / (1 - self.beta2**self.t)
        return -self.learning_rate * m / (np.sqrt(v) + self.epsilon)
