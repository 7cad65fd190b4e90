"""Filter banks: what the filters are, the patches they are learned from, and their files."""

import os
import pickle
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from fastvis.textures.bank import WHITENING_RIDGE, FilterBank, _covariance, _zca
from fastvis.textures.model import GramModel
from fastvis.textures.patches import sample_patches

ODD = st.integers(0, 5).map(lambda h: 2 * h + 1)


@pytest.fixture(scope="module")
def noise():
    """Three float64 images with neighboring pixels and colors correlated."""
    rng = np.random.default_rng(0)
    white = rng.random((3, 40, 40, 3))
    return (white + np.roll(white, 1, 1) + np.roll(white, 1, 2) + white[..., ::-1] / 2) / 4


def rows_of(bank):
    return np.concatenate([w.reshape(len(w), -1) for w in bank.filters])


# random


@settings(deadline=None)
@given(f=ODD, channels=st.integers(1, 4), n_maps=st.integers(1, 200))
def test_random_filters_stay_within_the_glorot_limit_and_reach_it(f, channels, n_maps):
    w = FilterBank.random((f,), n_maps, channels, rng=0, dtype=np.float64).filters[0]
    # fans of a convolution: incoming and outgoing values of one unit (Glorot & Bengio, eq 16)
    fan_in, fan_out = channels * f**2, n_maps * f**2
    limit = np.sqrt(6 / (fan_in + fan_out))
    assert np.abs(w).max() <= limit
    assert np.abs(w).max() > limit * 0.01 ** (1 / w.size)  # fails for 1 in 100 seeds, not this


def test_random_filters_are_uniform_at_every_scale():
    bank = FilterBank.random(channels=3, rng=0)
    assert len(bank) == 1024
    assert bank.n_maps == (128,) * 8
    for f, w in zip(bank.sizes, bank.filters):
        limit = np.sqrt(6 / (131 * f**2))
        assert w.var() == pytest.approx(limit**2 / 3, rel=0.05)
        assert stats.kstest(w.ravel(), "uniform", (-limit, 2 * limit)).pvalue > 1e-3


def test_random_draws_scale_by_scale_in_float64():
    both = FilterBank.random((3, 7), (4, 6), 2, rng=5)
    first = FilterBank.random((3,), 4, 2, rng=5)
    exact = FilterBank.random((3, 7), (4, 6), 2, rng=5, dtype=np.float64)
    np.testing.assert_array_equal(both.filters[0], first.filters[0])
    for w32, w64 in zip(both.filters, exact.filters):
        np.testing.assert_array_equal(w32, w64.astype(np.float32))
    limit = np.sqrt(6 / (6 * 9))
    drawn = np.random.default_rng(5).uniform(-limit, limit, (4, 3, 3, 2))
    np.testing.assert_array_equal(exact.filters[0], drawn)
    assert np.abs(rows_of(FilterBank.random(3, 4, 2, rng=6)) - rows_of(first)).min() > 0


def test_a_generator_goes_on_where_it_was():
    rng = np.random.default_rng(1)
    a, b = FilterBank.random(3, 4, rng=rng), FilterBank.random(3, 4, rng=rng)
    np.testing.assert_array_equal(a.filters[0], FilterBank.random(3, 4, rng=1).filters[0])
    assert not np.array_equal(a.filters[0], b.filters[0])


# Fourier


@settings(deadline=None)
@given(f=ODD, channels=st.integers(1, 3))
def test_fourier_separate_is_a_complete_orthonormal_basis(f, channels):
    w = rows_of(FilterBank.fourier(f, channels=channels, dtype=np.float64))
    assert w.shape == (channels * f**2, channels * f**2)
    np.testing.assert_allclose(w @ w.T, np.eye(len(w)), atol=1e-12)
    patch = np.random.default_rng(0).random(len(w))
    np.testing.assert_allclose(w.T @ (w @ patch), patch, atol=1e-12)


def test_fourier_filters_have_one_frequency_one_color_and_a_parity():
    bank = FilterBank.fourier(11, dtype=np.float64)
    assert len(bank) == 363
    radius = []
    for k, w in enumerate(bank.filters[0]):
        assert np.count_nonzero(np.abs(w).max(axis=(0, 1)) > 1e-12) == 1
        w = w[:, :, k % 3]
        power = np.abs(np.fft.fft2(w)) ** 2
        peaks = np.argwhere(power > 1e-9 * power.max())
        assert len(peaks) == (1 if k < 3 else 2)
        assert np.all(peaks.sum(axis=0) % 11 == 0)  # a frequency and its negative
        radius.append(np.hypot(*np.fft.fftfreq(11)[peaks[0]]))
        parity = -1 if k >= 3 and (k // 3) % 2 == 0 else 1  # sines after cosines
        np.testing.assert_allclose(w[::-1, ::-1], parity * w, atol=1e-12)
    assert np.all(np.diff(radius) > -1e-12)


def test_fourier_joint_has_the_papers_count_with_zeros_and_sign_pairs():
    bank = FilterBank.fourier(11, "joint")
    w = rows_of(bank)
    assert len(bank) == 3267
    assert np.count_nonzero(~w.any(axis=1)) == 121
    # 13 colors for each element, up to sign; the other sign is there too
    lead = np.take_along_axis(w, (w != 0).argmax(axis=1)[:, None], axis=1)
    up_to_sign = np.unique(w * np.sign(lead), axis=0)
    assert len(up_to_sign) == 13 * 121 + 1
    assert len(np.unique(w, axis=0)) == 26 * 121 + 1


def test_fourier_joint_weights_are_the_27_colors_of_each_element():
    joint = FilterBank.fourier(3, "joint", dtype=np.float64).filters[0].reshape(9, 27, 3, 3, 3)
    elements = FilterBank.fourier(3, channels=1, dtype=np.float64).filters[0][..., 0]
    weights = np.einsum("iwyxc,iyx->iwc", joint, elements)
    for w in weights:
        assert len(np.unique(np.round(w, 9), axis=0)) == 27
        np.testing.assert_allclose(np.sort(np.unique(np.round(w, 9))), [-1, 0, 1])
    np.testing.assert_allclose(joint, np.einsum("iwc,iyx->iwyxc", weights, elements), atol=1e-12)


# PCA


def test_pca_axes_are_those_of_the_svd_of_the_patches(noise):
    bank = FilterBank.pca(noise, 3, 8, n_patches=2000, rng=4, dtype=np.float64)
    patches = sample_patches(noise, 3, 2000, rng=4).reshape(2000, -1)
    axes = np.linalg.svd(patches - patches.mean(0), full_matrices=False)[2][:8]
    np.testing.assert_allclose(np.abs(np.sum(rows_of(bank) * axes, axis=1)), 1, atol=1e-9)
    assert np.all(np.sign(rows_of(bank))[range(8), np.abs(rows_of(bank)).argmax(1)] == 1)


def test_pca_is_a_complete_orthonormal_basis_that_decorrelates(noise):
    bank = FilterBank.pca(noise, 3, n_patches=3000, rng=0, dtype=np.float64)
    w = rows_of(bank)
    assert len(bank) == 27
    np.testing.assert_allclose(w @ w.T, np.eye(27), atol=1e-12)
    scores = sample_patches(noise, 3, 3000, rng=0).reshape(3000, -1) @ w.T
    covariance = np.cov(scores, rowvar=False)
    assert np.all(np.diff(np.diag(covariance)) <= 1e-12)
    assert np.abs(covariance - np.diag(np.diag(covariance))).max() < 1e-12


def test_pca_of_sampled_patches_approaches_pca_of_all_patches(noise):
    windows = np.lib.stride_tricks.sliding_window_view(noise, (3, 3), axis=(1, 2))
    everything = np.moveaxis(windows, 3, -1).reshape(-1, 27)
    axes = np.linalg.eigh(np.cov(everything, rowvar=False))[1][:, -3:]
    sampled = rows_of(FilterBank.pca(noise, 3, 3, n_patches=50_000, rng=0))
    # cosines of the angles between the two subspaces of the three largest variances
    assert np.linalg.svd(sampled @ axes)[1].min() > 0.999


def test_without_a_nonlinearity_all_complete_orthonormal_banks_are_one_model(noise):
    x, y = noise[0], noise[1, :30] * 0.7
    losses = []
    for bank in (
        FilterBank.fourier(3, dtype=np.float64),
        FilterBank.pca(noise, 3, n_patches=2000, rng=0, dtype=np.float64),
    ):
        model = GramModel(bank, "linear")
        losses.append(model.loss(y, model.gram(x)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert losses[0] > 1e-3


def test_pca_completes_directions_without_variance(noise):
    gray = np.repeat(noise[..., :1], 3, axis=-1)  # rank 9 of 27
    w = rows_of(FilterBank.pca(gray, 3, n_patches=500, rng=0, dtype=np.float64))
    np.testing.assert_allclose(w @ w.T, np.eye(27), atol=1e-12)
    assert np.linalg.matrix_rank(w[:9].reshape(9, 9, 3).mean(axis=2)) == 9


# k-means


def test_whitening_gives_identity_covariance(noise):
    rows = sample_patches(noise, 3, 5000, rng=0).reshape(5000, -1)
    rows -= rows.mean(axis=0)
    white = rows @ _zca(_covariance(rows), 0)
    np.testing.assert_allclose(np.cov(white, rowvar=False, bias=True), np.eye(27), atol=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), ridge=st.floats(1e-3, 10))
def test_the_ridge_shrinks_what_varies_little(seed, ridge):
    x = np.random.default_rng(seed).standard_normal((50, 5)) * [3, 2, 1, 0.1, 0]
    covariance = x.T @ x / 50
    w = _zca(covariance, ridge)
    variances = np.linalg.eigvalsh(covariance)
    r = ridge * np.trace(covariance) / 5
    np.testing.assert_allclose(w, w.T, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(w @ covariance @ w), variances / (variances + r), atol=1e-9
    )


def test_covariance_is_the_same_in_pieces():
    x = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    expected = x.T.astype(float) @ x.astype(float) / 100
    np.testing.assert_allclose(_covariance(x, chunk=33), expected, rtol=1e-12)


@pytest.mark.parametrize("whiten", [False, True])
def test_kmeans_recovers_planted_clusters(whiten):
    rng = np.random.default_rng(0)
    prototypes = rng.random((5, 3, 3, 2))
    images = np.repeat(prototypes, 40, axis=0) + 1e-4 * rng.standard_normal((200, 3, 3, 2))
    bank = FilterBank.kmeans(images, 3, 5, whiten, n_patches=2000, rng=1, dtype=np.float64)
    patches = sample_patches(images, 3, 2000, np.random.default_rng(1)).reshape(2000, -1)
    expected = prototypes.reshape(5, -1) - patches.mean(axis=0)
    if whiten:
        covariance = np.cov(patches, rowvar=False, bias=True)
        ridge = WHITENING_RIDGE * np.trace(covariance) / 18
        l, e = np.linalg.eigh(covariance)
        expected = expected @ (e / np.sqrt(l + ridge)) @ e.T
    distances = np.linalg.norm(rows_of(bank)[:, None] - expected, axis=2)
    assert sorted(distances.argmin(axis=0)) == list(range(5))
    # the noise of a mean is 1e-4 / sqrt(40) in 18 directions; whitening enlarges it about 100-fold
    assert distances.min(axis=0).max() < (0.02 if whiten else 2e-4)


def test_kmeans_of_one_seed_is_one_bank(noise):
    a, b, c = (FilterBank.kmeans(noise, 3, 4, n_patches=500, rng=r) for r in (0, 0, 1))
    np.testing.assert_allclose(a.filters[0], b.filters[0], rtol=1e-5)
    assert not np.allclose(a.filters[0], c.filters[0], rtol=1e-2)


# patches


def test_all_places_of_all_images_are_equally_likely():
    images = [np.arange(30.0).reshape(5, 6), 100 + np.arange(12.0).reshape(4, 3)]
    patches = sample_patches(images, 3, 14_000, rng=0)
    corners, counts = np.unique(patches[:, 0, 0, 0], return_counts=True)
    places = [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 100, 103]
    np.testing.assert_array_equal(corners, places)
    assert stats.chisquare(counts).pvalue > 1e-3
    for patch in patches[:50]:
        width = 6 if patch[0, 0, 0] < 100 else 3
        np.testing.assert_array_equal(
            patch[:, :, 0] - patch[0, 0], np.add.outer(width * np.arange(3), np.arange(3))
        )


def test_patches_lie_wholly_where_they_may():
    rng = np.random.default_rng(0)
    image = np.arange(81.0).reshape(9, 9)
    masks = [rng.random((9, 9)) < 0.9, np.zeros((9, 9), bool)]
    patches = sample_patches([image, image + 100], (2, 3), 3000, rng=0, where=masks)
    free = [image[i, j] for i in range(8) for j in range(7) if masks[0][i : i + 2, j : j + 3].all()]
    assert 5 < len(free) < 56
    corners, counts = np.unique(patches[:, 0, 0, 0], return_counts=True)
    np.testing.assert_array_equal(corners, free)
    assert stats.chisquare(counts).pvalue > 1e-3
    everywhere = [np.ones((9, 9), bool)] * 2
    np.testing.assert_array_equal(
        sample_patches([image] * 2, 3, 9, rng=0, where=everywhere),
        sample_patches([image] * 2, 3, 9, rng=0),
    )


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ([np.zeros((8, 8), bool)], "where must leave room for a patch"),
        ([np.ones((8, 8), bool)] * 2, r"one mask for each of 1 image\(s\); got 2"),
        ([np.ones((8, 9), bool)], r"where\[0\] .* shape \(8, 8\)"),
        ([np.ones((8, 8))], r"where\[0\] must be an array of bool"),
    ],
)
def test_masks_of_patches_refuse(where, message):
    with pytest.raises(ValueError, match=message):
        sample_patches([np.zeros((8, 8))], 3, 2, where=where)


def test_patches_keep_channels_and_dtype():
    image = np.zeros((8, 9, 3), np.uint8)
    image[..., 1], image[..., 2] = 51, 255
    patches = sample_patches([image], 4, 5)
    assert patches.dtype == np.float32
    np.testing.assert_allclose(patches[2, 3, 3], [0, 0.2, 1])
    assert sample_patches([image, np.ones((8, 8, 3))], 4, 5).dtype == np.float64
    np.testing.assert_array_equal(sample_patches(image[None], 4, 5), sample_patches([image], 4, 5))


@pytest.mark.parametrize(
    ("images", "size", "n", "error", "message"),
    [
        (np.zeros((8, 8, 3)), 3, 1, TypeError, r"Pass a single image as \[image\]"),
        (3, 3, 1, TypeError, "sequence of images; got int"),
        ([], 3, 1, ValueError, "at least one image"),
        ([np.zeros((8, 8)), np.zeros((2, 9))], 3, 1, ValueError, r"images\[1\] .* 3 x 3 .* 2 x 9"),
        ([np.zeros((8, 8)), np.zeros((8, 8, 3))], 3, 1, ValueError, "same number of channels"),
        ([np.full((8, 8), np.nan)], 3, 1, ValueError, r"images\[0\] must be finite"),
        ([np.zeros((8, 8))], 0, 1, ValueError, "size"),
        ([np.zeros((8, 8))], 3, 0, ValueError, "n must be"),
        ([np.zeros((8, 8))], 3.0, 1, TypeError, "size"),
        ([np.zeros((8, 8))], (3, 9), 1, ValueError, "at least 3 x 9 pixels"),
    ],
)
def test_patches_refuse(images, size, n, error, message):
    with pytest.raises(error, match=message):
        sample_patches(images, size, n)


# the class


def test_a_bank_is_immutable():
    array = np.ones((2, 3, 3, 1))
    bank = FilterBank([array])
    array[:] = 7
    assert np.all(bank.filters[0] == 1)
    for copy in (bank, pickle.loads(pickle.dumps(bank))):
        with pytest.raises(ValueError, match="read-only"):
            copy.filters[0][0] = 0
    with pytest.raises(AttributeError):
        bank.filters = ()


def test_astype_keeps_the_values():
    bank = FilterBank.random((3, 5), 2, rng=0)
    wide = bank.astype(np.float64)
    assert (bank.dtype, wide.dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(rows_of_scale(bank, 1), rows_of_scale(wide, 1))


def rows_of_scale(bank, i):
    return bank.filters[i].reshape(bank.n_maps[i], -1)


GOOD = np.ones((2, 3, 3, 1))


@pytest.mark.parametrize(
    ("filters", "error", "message"),
    [
        ([], ValueError, "at least one"),
        (3, TypeError, "filters must be a list"),
        (GOOD, ValueError, r"Pass \[filters\]"),
        ([GOOD[0]], ValueError, r"filters\[0\] must have 4 dimensions"),
        ([np.ones((2, 4, 4, 1))], ValueError, "odd size"),
        ([GOOD, np.ones((2, 3, 5, 1))], ValueError, r"filters\[1\] must be square"),
        ([GOOD, np.ones((2, 3, 3, 2))], ValueError, "one channel count"),
        ([GOOD, GOOD.astype(np.float32)], ValueError, "one dtype"),
        ([np.full((2, 3, 3, 1), np.inf)], ValueError, "finite"),
        ([np.ones((0, 3, 3, 1))], ValueError, "empty"),
        ([np.ones((2, 3, 3, 1), complex)], TypeError, "real numbers"),
    ],
)
def test_banks_refuse(filters, error, message):
    with pytest.raises(error, match=message):
        FilterBank(filters)


IMAGES = np.random.default_rng(0).random((2, 12, 12, 1))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FilterBank.random((3, 4)), ValueError, r"sizes\[1\] must be odd; got 4"),
        (lambda: FilterBank.random(()), ValueError, "sizes must hold at least one"),
        (lambda: FilterBank.random((3.0,)), TypeError, r"sizes\[0\]"),
        (lambda: FilterBank.random((3, 5), (1, 2, 3)), ValueError, "each of the 2 sizes"),
        (lambda: FilterBank.random(3, 0), ValueError, r"n_maps\[0\]"),
        (lambda: FilterBank.random(3, channels=0), ValueError, "channels"),
        (lambda: FilterBank.random(3, rng="a"), TypeError, "rng"),
        (lambda: FilterBank.random(3, dtype=np.float16), ValueError, "dtype must be"),
        (lambda: FilterBank.random(3, dtype="no"), ValueError, "dtype must be"),
        (lambda: FilterBank.fourier(10), ValueError, "size must be odd"),
        (lambda: FilterBank.fourier(-1), ValueError, "size"),
        (lambda: FilterBank.fourier(3, "both"), ValueError, "color must be one of"),
        (lambda: FilterBank.fourier(3, channels=0), ValueError, "channels"),
        (lambda: FilterBank.pca(IMAGES, 3, 10), ValueError, "n_maps must be at most 9"),
        (lambda: FilterBank.pca(IMAGES, 3, n_patches=9), ValueError, "more than 9"),
        (lambda: FilterBank.pca(IMAGES, 13), ValueError, r"images\[0\] must be at least 13 x 13"),
        (lambda: FilterBank.pca(IMAGES, 4), ValueError, "size must be odd"),
        (lambda: FilterBank.pca(IMAGES * 0 + 0.5, 3), ValueError, "must not be constant"),
        (lambda: FilterBank.pca(IMAGES[0], 3), TypeError, "single image"),
        (lambda: FilterBank.kmeans(IMAGES, 3, 11, n_patches=10), ValueError, "at most n_patches"),
        (lambda: FilterBank.kmeans(IMAGES * 0, 3, 2), ValueError, "must not be constant"),
        (lambda: FilterBank.kmeans(IMAGES, 2), ValueError, "size must be odd"),
        (lambda: FilterBank.kmeans(IMAGES, 3, 0), ValueError, "n_maps"),
    ],
)
def test_constructors_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


# files


@pytest.fixture
def bank():
    return FilterBank.random((3, 5, 1), (3, 2, 4), 2, rng=0, dtype=np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["bank.npz", "bank", "bank.v2"])
def test_save_and_load_give_the_same_bank_under_the_exact_name(bank, tmp_path, name, dtype):
    bank = bank.astype(dtype)
    bank.save(str(tmp_path / name))
    assert os.listdir(tmp_path) == [name]
    loaded = FilterBank.load(tmp_path / name)
    assert loaded.dtype == dtype
    for a, b in zip(bank.filters, loaded.filters, strict=True):
        np.testing.assert_array_equal(a, b)


def test_banks_of_many_scales_keep_their_order(tmp_path):
    bank = FilterBank([np.full((1, 1, 1, 1), i) for i in range(12)])
    bank.save(tmp_path / "bank")
    np.testing.assert_array_equal(rows_of(FilterBank.load(tmp_path / "bank")).ravel(), range(12))


def write_half(file, **arrays):
    file.write(b"PK half of a file")
    raise OSError("disk full")


def no_space(*args):
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("target", "failure"),
    [("numpy.savez", write_half), ("os.fsync", no_space), ("os.replace", no_space)],
)
def test_a_failed_write_leaves_the_old_file_whole(bank, tmp_path, monkeypatch, target, failure):
    path = tmp_path / "bank.npz"
    bank.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(target, failure)
    with pytest.raises(OSError, match="disk full"):
        FilterBank.random((3,), 1).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["bank.npz"]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_by_name(bank, tmp_path, fraction):
    path = tmp_path / "bank.npz"
    bank.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
        FilterBank.load(path)


def damaged(path):
    FilterBank.random((3,), 8, rng=0).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def npz(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)


def npy(path):
    with path.open("wb") as file:
        np.save(file, GOOD)


@pytest.mark.parametrize(
    "write",
    [
        damaged,
        npy,
        lambda path: path.write_text("hello"),
        lambda path: path.write_bytes(pickle.dumps([1])),
        lambda path: npz(path, other=GOOD),
        lambda path: npz(path, filters_0=np.array([GOOD, None], dtype=object)),
        lambda path: npz(path, filters_0=GOOD[:, :2]),
        lambda path: npz(path, filters_0=GOOD, filters_1=np.full_like(GOOD, np.nan)),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, write):
    path = tmp_path / "bank.npz"
    write(path)
    with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
        FilterBank.load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        FilterBank.load(tmp_path / "none.npz")
