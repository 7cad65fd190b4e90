"""What the tests of torch operators share."""

import pytest


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Torch's threads, waiting for work, would take the cores from the kernels'."""
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)
