"""Scenes with everything known about them, and their files."""

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from .._files import check_target, replacing
from .._validation import _as_array
from .arguments import check_labels, check_order, count_labels, depths, overlaps

_RESERVED = ("image", "mask", "visibility", "num_actual_objects", "shapes", "order")
_LAYOUT = "image (N, H, W, 3) uint8, mask (N, H, W, 1) of int, visibility (N, K + 1)"
_METADATA = "fastvis_metadata"
_CHUNK = 2**14  # bytes: about one image, so that reading one at random unpacks no others
_READ = 64  # scenes that an iteration reads at once
_LARGE = 2**20  # bytes, of a chunk of objects
_ATTRIBUTE = 60_000  # bytes; HDF5 refuses longer attributes


@dataclass(frozen=True, repr=False, eq=False)
class Scenes:
    """n images of objects that hide each other, and what is known about them.

    Parameters
    ----------
    images : ndarray of uint8, (n, H, W, 3)
    labels : ndarray of int, (n, H, W)
        What is seen at each pixel: 0 the background, k + 1 object k. uint8, or int32 with more
        than 255 objects.
    shapes : ndarray of bool, (n, K, H, W), optional
        Whole shapes of the objects, also where others hide them.
    order : ndarray of int, (n, K), optional
        Indices of objects from back to front, then -1 for those that are absent.
    table : dict of str to ndarray (n, K, ...), optional
        What else is known of each object: class, color, position. -1 or NaN for absent ones.
    present : ndarray of bool, (n, K), optional
        Which objects are in the image, hidden or not. Default: those in ``order``, else those
        with a shape, else those that are seen.
    metadata : dict, optional
        About all of them: names of classes, options of the generator. What JSON can hold.

    Raises
    ------
    TypeError, ValueError
        Wrong dtypes, different sizes, labels above K, an order that names an object twice or is
        not that of the present ones.

    Notes
    -----
    All parameters are attributes. An index, slice, list of indices or boolean mask gives Scenes
    again (of one image for an index); a slice shares memory. Iteration gives one at a time.

    Examples
    --------
    >>> from fastvis.scenes import Scenes
    >>> shapes = np.array([[[[1, 1, 0]], [[0, 1, 1]]]], bool)  # one image, two objects
    >>> labels = [[[1, 2, 2]]]
    >>> scenes = Scenes(np.zeros((1, 1, 3, 3), np.uint8), labels, shapes, order=[[0, 1]])
    >>> scenes
    Scenes(1 image of 1 x 3 pixels, 2 objects; shapes, order)
    >>> scenes.visibility.tolist(), scenes.occlusion().tolist()
    ([[1, 2]], [[[False, False], [True, False]]])
    """

    images: np.ndarray
    labels: np.ndarray
    shapes: np.ndarray | None = None
    order: np.ndarray | None = None
    table: dict = field(default_factory=dict)
    present: np.ndarray | None = None
    metadata: dict = field(default_factory=dict)

    def __post_init__(self):
        images = _check_images(self.images)
        labels = _check_scene_labels(self.labels, images)
        parts = {"shapes": self.shapes, "order": self.order, "present": self.present}
        parts = {name: _as_array(x, name) for name, x in parts.items() if x is not None}
        table = _check_table(self.table, len(images))
        n_objects = _check_slots({**parts, **table}, labels)
        shapes = _check_whole(parts.get("shapes"), labels)
        order = parts.get("order")
        order = None if order is None else check_order(order, len(images), n_objects)
        present = _check_present(parts.get("present"), order, len(images))
        if present is None:
            seen = shapes.any(axis=(2, 3)) if shapes is not None else None
            present = count_labels(labels, n_objects + 1)[:, 1:] > 0 if seen is None else seen
        labels = labels.astype(np.uint8 if n_objects <= 255 else np.int32, copy=False)
        checked = (images, labels, shapes, order, table, present, _check_metadata(self.metadata))
        for name, value in zip(self.__dataclass_fields__, checked):
            object.__setattr__(self, name, value)

    @property
    def n_objects(self):
        """Number of objects in each image, hidden ones included, (n,)."""
        return self.present.sum(axis=1)

    @cached_property
    def visibility(self):
        """Number of pixels at which each object is seen, (n, K).

        A ValueError if an object is seen that is not present.
        """
        counts = count_labels(self.labels, self.present.shape[1] + 1)[:, 1:]
        unexpected = (counts > 0) & ~self.present
        if unexpected.any():
            i, k = np.argwhere(unexpected)[0]
            raise ValueError(
                f"labels must name objects that are present; object {k} (label {k + 1}) is seen "
                f"in image {i}, but absent from its order or from present."
            )
        return counts

    def occlusion(self):
        """Which object covers part of which: ``[n, i, j]`` if i covers part of j.

        Object i does if it is in front of j and their whole shapes share a pixel, whether or not a
        third object hides that pixel.

        Returns
        -------
        ndarray of bool, (n, K, K)

        Raises
        ------
        ValueError
            Scenes without whole shapes or order.
        """
        if self.shapes is None or self.order is None:
            raise ValueError("occlusion needs shapes and order; these scenes have not both.")
        depth = depths(self.order)
        in_front = depth[:, :, None] > depth[:, None]
        present = self.present[:, :, None] & self.present[:, None]
        return in_front & present & (overlaps(self.shapes, self.shapes) > 0)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        rows = _check_index(index, len(self))
        parts = {name: getattr(self, name) for name in ("shapes", "order", "present")}
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            table={name: column[rows] for name, column in self.table.items()},
            **{name: None if x is None else x[rows] for name, x in parts.items()},
        )

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        height, width = self.labels.shape[1:]
        known = [name for name in ("shapes", "order") if getattr(self, name) is not None]
        if self.table:
            known.append(f"table of {', '.join(self.table)}")
        least, most = self.n_objects.min(initial=10**9), self.n_objects.max(initial=0)
        count = f"{least} to {most}" if least < most else f"{most}"
        images = "1 image" if len(self) == 1 else f"{len(self)} images"
        return (
            f"Scenes({images} of {height} x {width} pixels, {count} "
            f"object{'' if most == 1 else 's'}{'; ' * bool(known)}{', '.join(known)})"
        )

    def as_torch(self, *, targets=False):
        """A data set for torch: images as float32 tensors (3, H, W) in [0, 1].

        Parameters
        ----------
        targets : bool
            Give pairs of an image and a dict of tensors, what is known of it: "labels" (H, W) and
            "order" (K,), int64; "shapes" (K, H, W) and "present" (K,), bool; the columns of
            "table" (K, ...) in a dict of their own. What is not known is left out. Without, images
            alone, which files read faster.

        Returns
        -------
        TorchScenes
            A map-style data set, as `torch.utils.data.DataLoader` takes it, and makes batches of
            pairs, too; other processes may work on it.

        Examples
        --------
        >>> from fastvis.scenes import Scenes
        >>> scenes = Scenes(np.full((5, 8, 8, 3), 255, np.uint8), np.zeros((5, 8, 8), int))
        >>> scenes.as_torch()[0].shape
        torch.Size([3, 8, 8])
        >>> image, known = scenes.as_torch(targets=True)[0]
        >>> sorted(known), known["labels"].shape
        (['labels', 'present'], torch.Size([8, 8]))
        """
        return TorchScenes(self, targets)

    def read_images(self, index):
        """``images[index]``; `SceneFile.read_images` reads the same from a file."""
        return self.images[_check_index(index, len(self))]

    def save(self, path):
        """Write an HDF5 file in the layout of multi-object data sets.

        A failed write leaves an older file of that name as it was. `ScenesWriter` writes scenes
        that do not fit into memory.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        ImportError
            h5py is missing.
        ValueError
            No scenes.

        Notes
        -----
        Objects and the background are slots 0 (background) to K::

            image               (N, H, W, 3)   uint8
            mask                (N, H, W, 1)   label = slot
            visibility          (N, K + 1)     1 if the slot is in the image, hidden or not
            num_actual_objects  (N, 1)         without the background
            <name>              (N, K + 1, ..) columns of the table; NaN, -1 or 0 for no object
            order               (N, K)         as `Scenes.order`
            shapes              (N, K, B)      bits of `Scenes.shapes`, as numpy.packbits makes them

        The first five are those of github.com/addtt/object-centric-library. Metadata are JSON in
        the attribute ``fastvis_metadata``.

        Examples
        --------
        >>> import os, tempfile
        >>> from fastvis.scenes import Scenes
        >>> scenes = Scenes(np.zeros((5, 8, 8, 3), np.uint8), np.ones((5, 8, 8), int))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scenes.save(os.path.join(folder, "scenes.hdf5"))
        ...     Scenes.load(os.path.join(folder, "scenes.hdf5"))
        Scenes(5 images of 8 x 8 pixels, 1 object)
        """
        with ScenesWriter(path) as writer:
            writer.append(self)

    @classmethod
    def load(cls, path):
        """Read a whole file, of ours or of another multi-object data set.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Scenes

        Raises
        ------
        FileNotFoundError
            No such file.
        ImportError
            h5py is missing.
        ValueError
            The file is truncated, of another layout, or cannot be unpacked; the message names it.

        Notes
        -----
        Files of others need ``image``, ``mask`` and ``visibility`` as `save` explains them, the
        first slot being the background; arrays of one value for each slot become the table.
        HDF5 has no checksums of all it writes: a file of the right layout with a few wrong bits may
        be read without an error.
        """
        with SceneFile(path) as file:
            scenes = file[:]
        with _naming(path):
            scenes.visibility  # noqa: B018 - refuses labels of absent objects
        return scenes

    @classmethod
    def open(cls, path):
        """Open a file whose scenes are read when they are needed: `SceneFile`."""
        return SceneFile(path)


class SceneFile:
    """Scenes in a file, read when they are needed.

    Indices, slices, lists of indices and boolean masks read those `Scenes`; iteration gives one at
    a time. Forked and other processes may use it too, each opens the file anew.

    Parameters
    ----------
    path : str or path-like
        As for `Scenes.load`, with its errors.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastvis.scenes import SceneFile, Scenes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "scenes.hdf5")
    ...     Scenes(np.zeros((5, 8, 8, 3), np.uint8), np.ones((5, 8, 8), int)).save(path)
    ...     with SceneFile(path) as file:
    ...         len(file), file[1:3]
    (5, Scenes(2 images of 8 x 8 pixels, 1 object))
    """

    def __init__(self, path):
        self.path = Path(path).absolute()
        with open(path, "rb"):  # its errors say what is wrong
            pass
        self._reopen()
        try:
            with _naming(path):
                self._columns = _check_layout(self._file)
                self.metadata = _check_metadata(json.loads(self._file.attrs.get(_METADATA, "{}")))
        except BaseException:
            self.close()
            raise

    def _reopen(self):
        with _naming(self.path):
            self._file, self._process = _h5py().File(self.path, "r"), os.getpid()

    @property
    def _datasets(self):
        if self._file is None:
            raise ValueError(f"{self.path} is closed. Open it again with Scenes.open.")
        if self._process != os.getpid():  # a handle must not be shared after a fork
            self._file.close()
            self._reopen()
        return self._file

    def close(self):
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __getstate__(self):
        return self.path

    def __setstate__(self, path):
        self.__init__(path)

    def __len__(self):
        return len(self._datasets["image"])

    def __getitem__(self, index):
        rows = self._rows(index)
        with _naming(self.path):
            labels, visibility = self._read("mask", rows), self._read("visibility", rows)
            return Scenes(
                self._read("image", rows),
                labels.reshape(labels.shape[:3]),
                _unpacked(self._read("shapes", rows), *labels.shape[1:3]),
                self._read("order", rows),
                {name: self._read(name, rows)[:, 1:] for name in self._columns},
                visibility.reshape(visibility.shape[:2])[:, 1:] > 0,
                self.metadata,
            )

    def __iter__(self):
        for start in range(0, len(self), _READ):
            yield from self[start : start + _READ]

    def __repr__(self):
        if self._file is None:
            return f"SceneFile({str(self.path)!r}, closed)"
        height, width = self._datasets["image"].shape[1:3]
        return f"SceneFile({str(self.path)!r}: {len(self)} images of {height} x {width} pixels)"

    def as_torch(self, *, targets=False):
        """A data set for torch: see `Scenes.as_torch`."""
        return TorchScenes(self, targets)

    def read_images(self, index):
        """Read images alone, (n, H, W, 3) uint8: faster than all that is known of them."""
        rows = self._rows(index)
        with _naming(self.path):
            return self._read("image", rows)

    def _rows(self, index):
        n = len(self)
        return np.arange(n)[_check_index(index, n)]

    def _read(self, name, rows):
        """Rows of a dataset, in one piece for neighbors; None if there is no such dataset."""
        if name not in self._datasets:
            return None
        dataset = self._datasets[name]
        found, inverse = np.unique(rows, return_inverse=True)
        neighbors = np.split(found, np.flatnonzero(np.diff(found) > 1) + 1) if found.size else []
        pieces = [dataset[run[0] : run[-1] + 1] for run in neighbors] or [dataset[:0]]
        values = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return values if np.array_equal(found, rows) else values[inverse]


class ScenesWriter:
    """Write scenes to a file piece by piece.

    The file appears under its name when the block ends; an error or interrupt inside the block
    leaves an older one as it was. Each block writes a new file.

    Parameters
    ----------
    path : str or path-like

    Notes
    -----
    Pieces may hold different numbers of objects. All must have the size of the first, and
    know the same things. Metadata are those of the first.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastvis.scenes import Scenes, ScenesWriter
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "scenes.hdf5")
    ...     with ScenesWriter(path) as writer:
    ...         for value in (10, 20, 30):
    ...             images = np.full((4, 8, 8, 3), value, np.uint8)
    ...             writer.append(Scenes(images, np.zeros((4, 8, 8), int)))
    ...     len(Scenes.load(path))
    12
    """

    def __init__(self, path):
        self.path = Path(path)
        self._file = None

    def __enter__(self):
        if self._file is not None:
            raise ValueError(f"{self.path} is being written already, by a block of this writer.")
        self._like, self._n, self._broken = None, 0, False
        check_target(self.path)
        self._context = self._writing()
        self._context.__enter__()
        return self

    def __exit__(self, *error):
        return self._context.__exit__(*error)

    @contextmanager
    def _writing(self):
        h5py = _h5py()
        with replacing(self.path) as temporary, h5py.File(temporary, "x") as self._file:
            try:
                yield
                self._refuse_broken()
                if not self._n:
                    raise ValueError(f"{self.path} was not written: there are no scenes to save.")
            finally:
                self._file = None

    def _refuse_broken(self):
        if self._broken:
            raise RuntimeError(
                f"{self.path} was not written: an append failed half-way. Begin again."
            )

    def append(self, scenes):
        """Write more scenes after those that are written.

        Parameters
        ----------
        scenes : Scenes

        Raises
        ------
        TypeError, ValueError
            Not Scenes; other sizes or other columns than the first; labels of absent objects;
            outside of the ``with`` block. Nothing of these scenes is written.
        OSError
            A full disk, for example. The file is lost: further calls and the end of the block are
            a RuntimeError, and an older file stays.
        """
        if self._file is None:
            raise ValueError("append works inside the block of `with ScenesWriter(path) as ...`.")
        self._refuse_broken()
        if not isinstance(scenes, Scenes):
            raise TypeError(f"scenes must be Scenes; got {type(scenes).__name__}.")
        if not len(scenes):
            return
        scenes.visibility  # noqa: B018 - refuses labels of absent objects
        parts = _as_datasets(scenes)
        like = {name: (x.dtype, x.shape[2 if slots else 1 :]) for name, x, _, slots in parts}
        like["mask"] = scenes.labels.shape[1:]
        if self._like is None:
            self._file.attrs[_METADATA] = _as_attribute(scenes.metadata)
            self._like = like
        _check_like(like, self._like)
        self._broken = True  # until all is written
        for part in parts:
            self._write(*part)
        self._n += len(scenes)
        self._broken = False

    def _write(self, name, values, fill, slots):
        if name not in self._file:
            self._create(name, values, fill, slots)
        elif name == "mask" and values.dtype.itemsize > self._file[name].dtype.itemsize:
            self._widen(name, values)
        dataset = self._file[name]
        shape = [self._n + len(values), *values.shape[1:]]
        if slots:
            shape[1] = max(shape[1], dataset.shape[1])
        dataset.resize(shape)
        if values.size:
            columns = (slice(values.shape[1]),) if slots else ()
            dataset[(slice(self._n, None), *columns)] = values

    def _create(self, name, values, fill, slots):
        shape = values.shape[1:]
        chunk = [max(1, _CHUNK // max(1, values[0].nbytes)), *(max(1, s) for s in shape)]
        if slots:  # shapes of many large leaves would make chunks of gigabytes
            chunk[1] = min(chunk[1], max(1, _LARGE // max(1, values[0, :1].nbytes)))
        self._file.create_dataset(
            name,
            (0, *shape),
            values.dtype,
            chunks=tuple(chunk),
            maxshape=(None, None, *shape[1:]) if slots else (None, *shape),
            compression="gzip",
            compression_opts=1,
            fillvalue=fill,
        )

    def _widen(self, name, values):
        """Labels of more than 255 objects, after some of fewer."""
        narrow = self._file[name]
        del self._file[name]  # its data stay as long as it is held
        self._create(name, values, 0, False)
        self._file[name].resize(self._n, axis=0)
        for start in range(0, self._n, 1024):
            self._file[name][start : start + 1024] = narrow[start : start + 1024]


class TorchScenes:
    """`Scenes` or a `SceneFile` as tensors: see `Scenes.as_torch`."""

    def __init__(self, scenes, targets=False):
        self.scenes, self.targets = scenes, targets

    def __len__(self):
        return len(self.scenes)

    def __getitem__(self, i):
        return self.__getitems__([i])[0]

    def __getitems__(self, indices):
        """Several at once: what a DataLoader asks for where it can."""
        import torch

        indices = np.asarray(indices, int)
        scenes = self.scenes[indices] if self.targets else None
        pixels = self.scenes.read_images(indices) if scenes is None else scenes.images
        pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        images = list(pixels.to(torch.float32) / 255)
        return images if scenes is None else list(zip(images, _as_targets(scenes)))


def _as_targets(scenes):
    """What is known of each scene, as tensors."""
    import torch

    known = {name: getattr(scenes, name) for name in ("labels", "order", "shapes", "present")}
    known = {name: torch.from_numpy(x) for name, x in known.items() if x is not None}
    for name in {"labels", "order"} & set(known):
        known[name] = known[name].long()
    table = {name: torch.from_numpy(column) for name, column in scenes.table.items()}
    for i in range(len(scenes)):
        target = {name: x[i] for name, x in known.items()}
        if table:
            target["table"] = {name: x[i] for name, x in table.items()}
        yield target


def _as_datasets(scenes):
    """Name, values, fill value and whether the second axis counts objects, of each dataset."""
    n, n_objects = scenes.present.shape
    everywhere = np.ones((n, 1), np.float32)
    parts = [
        ("image", scenes.images, 0, False),
        ("mask", scenes.labels[..., None], 0, False),
        ("visibility", np.hstack([everywhere, scenes.present]).astype(np.float32), 0, True),
        ("num_actual_objects", scenes.n_objects[:, None], 0, False),
    ]
    for name, column in scenes.table.items():
        fill = {"f": np.nan, "i": -1}.get(column.dtype.kind, 0)
        background = np.full((n, 1, *column.shape[2:]), fill, column.dtype)
        parts.append((name, np.concatenate([background, column], axis=1), fill, True))
    if scenes.order is not None:
        parts.append(("order", scenes.order, -1, True))
    if scenes.shapes is not None:
        n_pixels = scenes.shapes.shape[2] * scenes.shapes.shape[3]
        bits = np.packbits(scenes.shapes.reshape(n, n_objects, n_pixels), axis=2)
        parts.append(("shapes", bits, 0, True))
    return parts


def _unpacked(bits, height, width):
    if bits is None:
        return None
    shapes = np.unpackbits(bits, axis=2, count=height * width).view(bool)
    return shapes.reshape(*bits.shape[:2], height, width)


def _check_images(images):
    images = _as_array(images, "images")
    if images.dtype != np.uint8:
        raise TypeError(
            f"images must be uint8; got dtype {images.dtype}. Floats in [0, 1] become such by "
            "np.round(255 * images).astype(np.uint8)."
        )
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape[1:]:
        raise ValueError(f"images must have shape (n, H, W, 3); got {images.shape}.")
    return images


def _check_scene_labels(labels, images):
    labels = check_labels(labels)
    if labels.shape != images.shape[:3]:
        raise ValueError(
            f"labels must have one value for each pixel, shape {images.shape[:3]}; got "
            f"{labels.shape}."
        )
    return labels


def _check_table(table, n):
    if not isinstance(table, dict | None):
        raise TypeError(f"table must be a dict of arrays (n, K, ...); got {type(table).__name__}.")
    checked = {}
    for name, column in (table or {}).items():
        if not isinstance(name, str) or name in ("", ".", *_RESERVED) or set(name) & {"/", "\0"}:
            raise ValueError(
                f"table must have names other than {', '.join(_RESERVED)} and '.', without '/' and "
                f"zero bytes, as files need them; got {name!r}."
            )
        column = _as_array(column, f"table[{name!r}]")
        if column.dtype.kind not in "biuf":
            raise TypeError(
                f"table[{name!r}] must hold numbers; got dtype {column.dtype}. Put names into "
                "metadata, and their indices here."
            )
        if column.ndim < 2 or len(column) != n:
            raise ValueError(
                f"table[{name!r}] must have one row for each of {n} image(s) and one value for "
                f"each object, (n, K, ...); got shape {column.shape}."
            )
        checked[name] = column
    return checked


def _check_slots(parts, labels):
    """The number of objects, on which all must agree."""
    counts = {name: x.shape[1] if x.ndim > 1 else None for name, x in parts.items()}
    if len(set(counts.values())) > 1 or None in counts.values():
        raise ValueError(
            "shapes, order, present and table must have the same number of objects on their second "
            f"axis; got shapes { {name: x.shape for name, x in parts.items()} }."
        )
    largest = int(labels.max(initial=0))
    n_objects = next(iter(counts.values()), largest)
    if largest > n_objects:
        raise ValueError(
            f"labels must be at most {n_objects}, the number of objects; got {largest}. Label "
            "k + 1 is object k."
        )
    return n_objects


def _check_whole(shapes, labels):
    if shapes is None:
        return None
    if shapes.dtype != bool:
        raise TypeError(f"shapes must be bool; got dtype {shapes.dtype}. Pass shapes > 0.")
    n, height, width = labels.shape
    if shapes.ndim != 4 or (len(shapes), *shapes.shape[2:]) != (n, height, width):
        raise ValueError(
            f"shapes must have shape ({n}, K, {height}, {width}), as labels have {labels.shape}; "
            f"got {shapes.shape}."
        )
    return shapes


def _check_present(present, order, n):
    if present is None:
        return None if order is None else depths(order) >= 0
    if present.dtype != bool:
        raise TypeError(f"present must be bool; got dtype {present.dtype}.")
    if present.ndim != 2 or len(present) != n:
        raise ValueError(f"present must have shape ({n}, K); got {present.shape}.")
    if order is not None and not np.array_equal(present, depths(order) >= 0):
        raise ValueError("present must be the objects that are in order. Leave it out.")
    return present


def _check_metadata(metadata):
    if not isinstance(metadata, dict | None):
        raise TypeError(f"metadata must be a dict; got {type(metadata).__name__}.")
    return metadata or {}


def _as_attribute(metadata):
    try:
        text = json.dumps(metadata)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must hold what JSON can: {error}.") from error
    if len(text) > _ATTRIBUTE:
        raise ValueError(
            f"metadata must take at most {_ATTRIBUTE} bytes as JSON; got {len(text)}. Put values "
            "of each object into table."
        )
    return text


def _check_index(index, n):
    """A slice, or an array that picks along the first axis."""
    if isinstance(index, slice):
        return index
    rows = np.asarray(index, dtype=int if np.size(index) == 0 else None)
    mask = rows.dtype == bool
    one = rows.ndim == 0 and not mask
    if rows.dtype.kind not in "iub" or not (one or rows.ndim == 1):
        raise TypeError(
            "scenes are picked by an index, a slice, a list of indices or a boolean mask; got "
            f"{index!r}."
        )
    if mask and len(rows) != n:
        raise IndexError(f"a mask of {n} scenes must have {n} values; got {len(rows)}.")
    if not mask and rows.size and not (-n <= rows.min() and rows.max() < n):
        raise IndexError(f"there are {n} scenes; got the index {index!r}.")
    return slice(int(rows) % n, int(rows) % n + 1) if one else rows


def _check_like(like, first):
    for name in {**first, **like}:
        if like.get(name) != first.get(name):
            raise ValueError(
                f"scenes must have what the first ones have in this file; {name} differs: "
                f"{like.get(name, 'none')} after {first.get(name, 'none')} (dtype and shape)."
            )


def _check_layout(file):
    """The names of the columns of the table; an error if this is another kind of file."""
    shapes = {name: x.shape for name, x in file.items() if hasattr(x, "dtype")}
    missing = {"image", "mask", "visibility"} - set(shapes)
    if missing:
        raise ValueError(f"it has no {', '.join(sorted(missing))}, only {sorted(file)}")
    image, mask, slots = shapes["image"], shapes["mask"], shapes["visibility"]
    n_pixels = int(np.prod(image[1:3]))
    dtype = {name: file[name].dtype for name in shapes}
    k = slots[1] - 1 if len(slots) > 1 else -1
    as_it_should = {
        "image": dtype["image"] == np.uint8 and len(image) == 4 and image[3] == 3,
        "mask": dtype["mask"].kind in "iu" and mask in (image[:3], (*image[:3], 1)),
        "visibility": dtype["visibility"].kind in "biuf" and k >= 0
        and slots in ((*image[:1], k + 1), (*image[:1], k + 1, 1)),
        "order": "order" not in shapes
        or (dtype["order"].kind in "iu" and shapes["order"] == (image[0], k)),
        "shapes": "shapes" not in shapes
        or (dtype["shapes"] == np.uint8 and shapes["shapes"] == (image[0], k, -(-n_pixels // 8))),
    }  # fmt: skip
    for name, right in as_it_should.items():
        if not right:
            raise ValueError(f"its {name} is {dtype[name]} of shape {shapes[name]}")
    return [
        name
        for name, shape in shapes.items()
        if name not in _RESERVED and shape[:2] == slots[:2] and dtype[name].kind in "biuf"
    ]


@contextmanager
def _naming(path):
    """Errors of reading say which file it was."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"path must be an HDF5 file of scenes ({_LAYOUT}); got {os.fspath(path)!r}, which "
            f"cannot be read as one: {error}. It may be truncated, or of another layout."
        ) from error


def _h5py():
    try:
        import h5py
    except ImportError as error:
        raise ImportError("Files of scenes need h5py: pip install fastvis[data]") from error
    return h5py
