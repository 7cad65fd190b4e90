"""Sphinx: the API from the docstrings, the gallery from examples/."""

import fastvis

project = "fastvis"
copyright = "2026, the fastvis developers"
version = release = fastvis.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_show_sourcelink = False

autodoc_typehints = "none"  # the docstrings say shapes, which annotations cannot
numpydoc_show_class_members = False
autodoc_default_options = {"members": True}

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    # Every example is listed; only files named plot_*.py run when the pages are built, since the
    # figures of the papers take minutes.
    "filename_pattern": r"[/\\]plot_",
    "ignore_pattern": r"(__init__|demo)\.py",
    "download_all_examples": False,
    "show_memory": False,
}
