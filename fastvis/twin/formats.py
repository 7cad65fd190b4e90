"""Files of recordings: HDF5, and folders and zip files in Sensorium's layout.

Readers give the arrays that `Recording` takes.
"""

import io
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .._files import check_target, replacing
from .._validation import check_int


def write_hdf5(path, images, responses, image_ids, tiers):
    """Write what `read_hdf5` reads."""
    check_target(path)
    with replacing(path) as temporary, _h5py().File(temporary, "x") as file:
        file.create_dataset("images", data=images, fletcher32=True)
        file.create_dataset("responses", data=responses, fletcher32=True)
        file["image_ids"], file["tiers"] = image_ids, tiers.astype("S10")


def read_hdf5(path):
    """A dict of arrays, of which image_ids and tiers may be missing."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    h5py = _h5py()
    with naming(path), h5py.File(path, "r") as file:
        arrays = {}
        for name in ("images", "responses", "image_ids", "tiers"):
            if isinstance(file.get(name), h5py.Dataset):
                arrays[name] = file[name][()]
        missing = {"images", "responses"} - set(arrays)
        if missing:
            raise ValueError(f"it has no dataset {' and no '.join(sorted(missing))}")
        if "tiers" in arrays:
            arrays["tiers"] = np.char.decode(arrays["tiers"].astype("S"), "ascii")
        return arrays


def read_sensorium(path, block, final_test):
    """Images, responses, image_ids and tiers."""
    block = check_int(block, "block", minimum=1)
    with _Folder(path) as folder:
        tiers = folder.array("meta/trials/tiers.npy").astype(str)
        names = folder.array("meta/trials/frame_image_id.npy")
        if tiers.ndim != 1 or names.shape != tiers.shape:
            raise ValueError(
                f"{path}: meta/trials/tiers.npy and frame_image_id.npy must be of one length; got "
                f"shapes {tiers.shape} and {names.shape}."
            )
        wanted = [*_TIERS, "final_test"] if final_test else _TIERS
        trials = np.flatnonzero(np.isin(tiers, wanted))
        if not len(trials):
            raise ValueError(f"{path}: no trials of the tiers {', '.join(wanted)}.")
        ids, first = {}, []
        image_ids = np.empty(len(trials), np.int64)
        for t, trial in enumerate(trials):
            name = str(names[trial])
            if name not in ids:
                ids[name] = len(first)
                first.append(trial)
            image_ids[t] = ids[name]
        images = folder.stack("data/images", first, block)
        responses = folder.stack("data/responses", trials)
        tiers = np.where(tiers[trials] == "final_test", "test", tiers[trials])
    return images, responses, image_ids, tiers


_TIERS = ["train", "validation", "test"]


class _Folder:
    """Arrays in a folder or a zip file, below the first folder that has ``meta``."""

    def __init__(self, path):
        self.path, self._zip = Path(path), None
        if self.path.is_dir():
            self._root = self.path
        elif self.path.is_file():
            with naming(path):
                self._zip = zipfile.ZipFile(path)
            ends = [
                n[: n.index("meta/trials/")] for n in self._zip.namelist() if "meta/trials/" in n
            ]
            self._root = min(ends, key=len, default="")
        else:
            raise FileNotFoundError(f"there is no folder or file {path}.")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._zip is not None:
            self._zip.close()

    def array(self, name):
        try:
            if self._zip is None:
                data = (self._root / name).read_bytes()
            else:
                data = self._zip.read(self._root + name)
        except (FileNotFoundError, KeyError):
            raise FileNotFoundError(f"there is no {name} in {self.path}.") from None
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{name} in {self.path} cannot be read: {error}") from error
        try:
            return np.load(io.BytesIO(data), allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(f"{name} in {self.path} is no array of numbers: {error}") from error

    def stack(self, name, trials, block=None):
        """Arrays of trials, of one shape; images are averaged over blocks."""
        out = None
        for i, trial in enumerate(trials):
            array = self.array(f"{name}/{trial}.npy")
            if array.dtype.kind not in "fiub":
                raise ValueError(f"{name}/{trial}.npy in {self.path} must have numbers.")
            if block is not None:
                array = self._averaged(array, f"{name}/{trial}.npy", block)
            if out is None:
                out = np.empty((len(trials), *array.shape), np.float32)
            if array.shape != out.shape[1:]:
                raise ValueError(
                    f"{name}/{trial}.npy in {self.path} must have the shape {out.shape[1:]} of "
                    f"{name}/{trials[0]}.npy; got {array.shape}."
                )
            out[i] = array
        return out

    def _averaged(self, image, name, block):
        image = image[0] if image.ndim == 3 and len(image) == 1 else image
        if image.ndim != 2 or image.shape[0] % block or image.shape[1] % block:
            raise ValueError(
                f"{name} in {self.path} must be an image (1, H, W) of sides that {block} divides; "
                f"got shape {image.shape}."
            )
        height, width = (n // block for n in image.shape)
        return image.reshape(height, block, width, block).mean((1, 3), dtype=np.float64)


@contextmanager
def naming(path):
    """Errors say which file it was."""
    try:
        yield
    except (ValueError, TypeError, KeyError, OSError, UnicodeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no recording: {error}") from error


def _h5py():
    try:
        import h5py
    except ImportError as error:
        raise ImportError("recordings in HDF5 need h5py: pip install fastvis[data]") from error
    return h5py
