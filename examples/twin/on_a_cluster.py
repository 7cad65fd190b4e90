"""
Most exciting images on a cluster of machines
=============================================

Neurons do not need each other: `fastvis.twin.meis` hands them out through joblib, to whatever
backend is set. Here Dask with two local workers; on a cluster pass the address of its scheduler.

    pip install dask distributed
    python examples/twin/on_a_cluster.py [--scheduler ADDRESS]

What must be seen: the same images as in one process.
"""

import argparse

import joblib
import numpy as np
import torch
from dask.distributed import Client

from fastvis.twin import (
    EncodingModel,
    RotationEquivariantCore,
    meis,
    natural_patches,
    simulate_cortex,
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--scheduler", help="address; by default two workers on this machine")
    options = parser.parse_args()

    images = natural_patches(300, 20, rng=0)
    recording = simulate_cortex(16, images, n_test=30, margin=6.0, rng=0)
    torch.manual_seed(0)
    core = RotationEquivariantCore((7, 5), n_features=2, padding="valid")
    model = EncodingModel(core, batch_size=32, rng=0).fit(recording, max_steps=50)

    here = meis(model, n_starts=2, max_iter=50, rng=0)
    local = {} if options.scheduler else {"n_workers": 2, "threads_per_worker": 1}
    with (
        Client(options.scheduler, dashboard_address=None, **local) as client,
        joblib.parallel_config(backend="dask"),
    ):
        n_workers = len(client.scheduler_info()["workers"])
        there = meis(model, n_starts=2, max_iter=50, n_jobs=n_workers, rng=0)
    difference = np.abs(there.images - here.images).max()
    print(
        f"{len(there.images)} neurons on {n_workers} workers; largest difference {difference:.1e}"
    )


if __name__ == "__main__":
    main()
