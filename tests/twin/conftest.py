"""What tests of the digital twin share."""

import numpy as np
import pytest


@pytest.fixture
def write_sensorium():
    """``write_sensorium(recording, folder)`` in the layout of 2022, images twice as large."""

    def write(recording, folder):
        for name in ("data/images", "data/responses", "meta/trials", "meta/neurons"):
            (folder / name).mkdir(parents=True)
        for i, (image, r) in enumerate(zip(recording.image_ids, recording.responses)):
            whole = np.kron(recording.images[image], np.ones((2, 2)))
            np.save(folder / f"data/images/{i}.npy", whole[None].astype(np.float32))
            np.save(folder / f"data/responses/{i}.npy", r)
        np.save(folder / "meta/trials/tiers.npy", recording.tiers)
        np.save(folder / "meta/trials/frame_image_id.npy", recording.image_ids + 5000)
        return folder

    return write
