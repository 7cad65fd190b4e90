"""Where float32 stays float32: no TF32, no autocast, no autograd; imports torch."""

import threading
from contextlib import contextmanager

import torch


class _NoTF32:
    """``with no_tf32:`` lets cuBLAS multiply float32 matrices in float32; re-entrant.

    TF32 keeps 10 bits of a factor: an error of 1e-3 where 1e-6 is promised. It is a setting of the
    process, and the backward pass of each GPU runs in a thread of its own. A count says who was
    first (saves and sets) and who is last (restores). Nothing is touched where TF32 is off, which
    is torch's default.

    The setting has an old interface (three levels) and a new one; cuBLAS calls fail when the two
    disagree. Setting the old one sets both.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._depth = 0
        self._saved = None

    def __enter__(self):
        with self._lock:
            if self._depth == 0:
                self._saved = _tf32_level()
                if self._saved is not None:
                    torch.backends.cuda.matmul.allow_tf32 = False
            self._depth += 1

    def __exit__(self, *exc_info):
        with self._lock:
            self._depth -= 1
            if self._depth == 0 and self._saved is not None:
                _restore_tf32(self._saved)


no_tf32 = _NoTF32()


def _tf32_level():
    """None if TF32 is off, "high" or "medium" by the old interface, "new" by the new one alone."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):
        is_on = matmul.fp32_precision == "tf32"
    else:  # torch < 2.9
        is_on = matmul.allow_tf32
    if not is_on:
        return None
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # the old interface says that it is off
        return "new"


def _restore_tf32(level):
    if level == "medium":
        torch.set_float32_matmul_precision("medium")
    elif level == "high":  # set_float32_matmul_precision would change the CPU's setting as well
        torch.backends.cuda.matmul.allow_tf32 = True
    else:
        torch.backends.cuda.matmul.fp32_precision = "tf32"


@contextmanager
def plain_arithmetic(device):
    """Operations on tensors of ``device`` are done in the tensors' dtype, and not recorded."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False), no_tf32:
        yield
