"""Build the Cython kernels; everything else is declared in pyproject.toml."""

import os
import shutil
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("FASTVIS_CYTHON_DEBUG") == "1"

DIRECTIVES = {
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "language_level": 3,
    "freethreading_compatible": True,
}

# errno would keep sqrt from being a vector instruction. A debug build also runs the loops that
# compilers without vector types get.
FLAGS = {
    "unix": ["-O3", "-fno-math-errno", *(["-DNO_VECTORS"] if DEBUG else [])],
    "msvc": ["/O2", "/std:c11"],
}

NO_COMPILER = """

fastvis cannot be compiled: {missing}. Install a C compiler and the Python headers:
    Debian, Ubuntu   apt install build-essential python3-dev
    Fedora           dnf install gcc python3-devel
    macOS            xcode-select --install
    conda            conda install c-compiler
"""


class BuildKernels(build_ext):
    """setuptools' build_ext, which runs Cython on .pyx sources, with our directives and flags."""

    def finalize_options(self):
        super().finalize_options()
        self.cython_directives = DIRECTIVES
        self.cython_c_in_temp = True
        self.force = True  # time stamps do not see a change of FASTVIS_CYTHON_DEBUG

    def build_extensions(self):
        if self.compiler.compiler_type == "unix":
            self.require_compiler()
        for extension in self.extensions:
            extension.extra_compile_args = FLAGS.get(self.compiler.compiler_type, [])
        super().build_extensions()

    def require_compiler(self):
        compiler = self.compiler.compiler[0]
        if shutil.which(compiler) is None:
            raise SystemExit(NO_COMPILER.format(missing=f"there is no C compiler `{compiler}`"))
        header = Path(sysconfig.get_path("include"), "Python.h")
        if not header.exists():
            raise SystemExit(NO_COMPILER.format(missing=f"there is no {header}"))


def kernels():
    """One extension for each fastvis/_kernels/**/_*.pyx."""
    kernels = Path("fastvis", "_kernels")
    for path in sorted(kernels.glob("**/_*.pyx")):
        folder = path.parent  # a kernel may include a C header that lies beside it
        yield Extension(
            name=".".join(path.with_suffix("").parts),
            sources=[path.as_posix()],
            include_dirs=[folder.as_posix(), kernels.as_posix()],
            depends=[header.as_posix() for header in sorted(kernels.glob("**/*.h"))],
        )


setup(ext_modules=list(kernels()), cmdclass={"build_ext": BuildKernels})
