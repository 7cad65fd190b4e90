"""Arguments that several parts of the twin take."""

import numpy as np


def check_image_ids(image_ids, n_trials):
    """Image ids (n_trials,) as int64."""
    ids = np.asarray(image_ids)
    if ids.dtype.kind not in "iu" or ids.shape != (n_trials,):
        raise ValueError(
            f"image_ids must be {n_trials} integers, one for each trial; got dtype {ids.dtype} and "
            f"shape {ids.shape}."
        )
    return ids.astype(np.int64)
