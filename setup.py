"""What pyproject.toml cannot say: the C kernels, without which the package installs and works as well, and a README
whose links hold outside the repository too."""

import platform
import re
import sys
import tomllib
from glob import glob
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
# No contraction to FMA: values equal the torch definition's bit by bit. cl contracts nothing unless asked to.
GCC_AND_CLANG = [
    "-O3",
    "-std=c11",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-D_GNU_SOURCE",
    "-g0",
]
MSVC = ["/O2", "/std:c11", "/fp:precise"]


class BuildKernels(build_ext):
    """Flags by compiler, not by system: gcc builds on Windows too."""

    def build_extension(self, ext: Extension) -> None:
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = MSVC
        else:
            wide = platform.machine() == "x86_64"
            ext.extra_compile_args = GCC_AND_CLANG + ["-mprefer-vector-width=512"] * wide
            ext.libraries = [] if sys.platform == "win32" else ["m"]
        super().build_extension(ext)


def readme(repository: str | None) -> str:
    """README.md with the repository's address before its relative links; where there is none they become words."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = r"\[([^\]]*)\]\((?![a-z]+:)([^)#]*)(#[^)]*)?\)"
    if repository is None:
        return re.sub("!?" + relative, r"\1", text)
    text = re.sub("!" + relative, rf"![\1]({repository}/raw/HEAD/\2)", text)
    return re.sub(relative, rf"[\1]({repository}/blob/HEAD/\2\3)", text)


with (ROOT / "pyproject.toml").open("rb") as file:
    urls = tomllib.load(file)["project"]["urls"]
setup(
    long_description=readme(urls.get("Repository")),
    long_description_content_type="text/markdown",
    cmdclass={"build_ext": BuildKernels},
    ext_modules=[
        Extension(
            "dropact.kernels._cpu",
            ["src/dropact/kernels/_cpu.c"],
            depends=sorted(glob("src/dropact/kernels/_cpu*.h")),
            py_limited_api=True,
            optional=True,  # no compiler: the torch definition serves, and one warning says so
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
