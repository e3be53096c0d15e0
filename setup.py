"""The one thing pyproject.toml cannot say: the C kernels, without which the package installs and works as well."""

import platform
import sys
from glob import glob

from setuptools import Extension, setup

flags = []
if sys.platform != "win32":
    # No contraction to FMA: values equal the torch definition's bit by bit.
    flags = ["-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-D_GNU_SOURCE"]
    if platform.machine() == "x86_64":
        flags.append("-mprefer-vector-width=512")

setup(
    ext_modules=[
        Extension(
            "dropact.kernels._cpu",
            ["src/dropact/kernels/_cpu.c"],
            depends=sorted(glob("src/dropact/kernels/_cpu*.h")),
            extra_compile_args=flags,
            libraries=[] if sys.platform == "win32" else ["m"],
            py_limited_api=True,
            optional=True,  # no compiler: the torch definition serves, and one warning says so
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
