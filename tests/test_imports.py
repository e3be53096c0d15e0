import subprocess
import sys

import dropact

HEAVY = ("triton", "torchvision", "scipy", "matplotlib", "ray", "sklearn", "rich", "PIL", "pandas")


def test_import_is_lean():
    """In a fresh interpreter, as this one has loaded all of them. What torch itself loads does not count."""
    code = (
        "import sys, torch; before = set(sys.modules); import dropact; "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "dropact" in loaded
    assert not set(loaded) & set(HEAVY)
    assert set(loaded) <= {"dropact", "torch"} | set(sys.stdlib_module_names)


def test_facade_names_what_it_offers():
    assert all(hasattr(dropact, name) for name in dropact.__all__)
