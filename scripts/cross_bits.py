"""What each C kernel writes on this processor, as one digest per instruction set, operation and dtype.

    python scripts/cross_bits.py FOLDER           # FOLDER holds _cpu.abi3.so
    python scripts/cross_bits.py --compare LOG... # says where the logs differ; exit status 1 if they do

Needs no torch, so that it runs under an emulator within seconds: the functions of `dropact.kernels.cpu` are called with
tensors of this file. cross_bits.sh runs it on the machine's own processor and on emulated ones. NaN counts as NaN,
whatever its payload.
"""

import ctypes
import hashlib
import inspect
import random
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

SIZES = (1, 4097, 3 * 4096 + 5)  # a single one, a block and one more, several blocks
WIDTH = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
# bits of the mantissa, and an exponent and a number of them around one
LAYOUT = {"float16": (10, 9, 8), "bfloat16": (7, 120, 12), "float32": (23, 120, 12), "float64": (52, 1016, 12)}
FLOATS = {"lower": 1 / 8, "upper": 1 / 3, "a": 2.0, "b": 0.7, "cap": 1.5}
SETS = ("baseline", "avx2", "avx512")


class Number:
    def __init__(self, value):
        self.item = lambda: value


class Tensor:
    """Words in memory."""

    def __init__(self, words: bytes, dtype: str):
        self.memory, self.dtype = bytearray(words), dtype
        self._address = (ctypes.c_char * len(words)).from_buffer(self.memory)

    def data_ptr(self):
        return ctypes.addressof(self._address)

    def numel(self):
        return len(self.memory) // WIDTH[self.dtype]

    def digest(self) -> bytes:
        """Of its words, every NaN alike."""
        width, (mantissa, _, _) = WIDTH[self.dtype], LAYOUT[self.dtype]
        infinity = ((1 << (8 * width - 1 - mantissa)) - 1) << mantissa
        sign = 1 << (8 * width - 1)
        words = (int.from_bytes(self.memory[i : i + width], "little") for i in range(0, len(self.memory), width))
        same = (word if word & ~sign <= infinity else sign | (infinity + 1) for word in words)
        return hashlib.sha256(b"".join(word.to_bytes(width, "little") for word in same)).digest()


def numbers(size: int, dtype: str, rng: random.Random) -> Tensor:
    """Half of them around one, half any word there is: subnormal, infinite and NaN too."""
    width, (mantissa, exponent, several) = WIDTH[dtype], LAYOUT[dtype]
    words = []
    for index in range(size):
        word = rng.getrandbits(8 * width)
        if index % 2:
            kept = word & (1 << (8 * width - 1) | ((1 << mantissa) - 1))
            word = kept | (exponent + rng.randrange(several)) << mantissa
        words.append(word.to_bytes(width, "little"))
    return Tensor(b"".join(words), dtype)


def kernels(folder: Path) -> ModuleType:
    """`dropact.kernels.cpu` alone, with the extension of that folder and no torch."""
    source = Path(__file__).parents[1] / "src" / "dropact" / "kernels"
    torch = ModuleType("torch")
    torch.__file__ = __file__
    torch.Tensor, torch.dtype = Tensor, str
    for name in WIDTH:
        setattr(torch, name, name)
    sys.modules["torch"] = torch
    for name, path in (("dropact", []), ("dropact.kernels", [str(folder), str(source)])):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = path
    return import_module("dropact.kernels.cpu")


def calls(function, activations):
    """Each way to call it: its name, its arguments' names, and what those that are no tensor of numbers are given."""
    parameters = inspect.signature(function).parameters
    fixed = {name: FLOATS[name] for name, p in parameters.items() if p.annotation == "float"}
    fixed |= {name: Number(-(2**62) - 12345) for name in parameters if name == "seed"}
    fixed |= {name: Number(0.3) for name in parameters if name in ("prob", "drop_prob")}
    accelerated = [name.removeprefix("accelerated_") for name in activations if name.startswith("accelerated_")]
    if "activation" in parameters:
        yield from ((name, parameters, fixed | {"activation": name}) for name in accelerated)
    elif "f" in parameters:
        of = {name: SimpleNamespace(name=name, settings=(0.3, 1.5, 0.8)) for name in activations}
        for name in activations[: -len(accelerated)]:
            for other in ("identity", name):
                pair = {"f": of[name], "g": of[other], "prob": 0.3}
                yield f"{name},{other}", parameters, fixed | pair | {"mean": other == name}
    else:
        yield None, parameters, fixed


def run(folder: Path) -> None:
    cpu = kernels(folder)
    if cpu.extension is None:
        sys.exit(f"cross_bits: {cpu.description}")
    functions = {
        name: function
        for name, function in vars(cpu).items()
        if inspect.isfunction(function) and not name.startswith("_") and "out" in str(inspect.signature(function))
    }
    del functions["bits"]  # the words alone, which every mask shows
    for instructions in SETS:
        try:
            cpu.extension.use_instructions(instructions)
        except ValueError:
            continue
        for name, function in functions.items():
            for activation, parameters, fixed in calls(function, [*cpu.CODES]):
                for dtype in WIDTH:
                    rng, found = random.Random(20181114), hashlib.sha256()
                    try:
                        for size in SIZES:
                            tensors = {n: numbers(size, dtype, rng) for n in parameters if n not in fixed}
                            function(**tensors, **fixed)
                            for n in tensors:
                                if n.startswith("out"):
                                    found.update(tensors[n].digest())
                    except ValueError:  # there is none for this dtype
                        continue
                    of = f"{name}[{activation}]" if activation else name
                    sys.stdout.write(f"{instructions} {of} {dtype} {found.hexdigest()[:16]}\n")


def compare(logs: list[Path]) -> int:
    found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for log in logs:
        for line in log.read_text().splitlines():
            instructions, operation, dtype, digest = line.split()
            found[operation, dtype][digest].append(f"{log.stem}: {instructions}")
    different = 0
    for (operation, dtype), digests in found.items():
        where = [name for names in digests.values() for name in names]
        if len(digests) > 1:
            different += 1
            sys.stdout.write(f"DIFFERENT {operation} {dtype}: {dict(digests)}\n")
        else:
            sys.stdout.write(f"same      {operation} {dtype}: {next(iter(digests))} in {len(where)}\n")
    everywhere = list(dict.fromkeys(name for digests in found.values() for names in digests.values() for name in names))
    sys.stdout.write(f"{len(found) - different} of {len(found)} pairs of operation and dtype have the same bits in: ")
    sys.stdout.write(", ".join(everywhere) + "\n")
    return int(different > 0 or not found)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--compare"]:
        sys.exit(compare([Path(name) for name in sys.argv[2:]]))
    run(Path(sys.argv[1]).resolve())
