"""The stream of mask bits, for a battery of randomness tests to read.

    python benchmarks/bits.py | dieharder -g 200 -d 100    # battery.py runs all tests

Writes 32-bit words to standard output without end: those of tensors of 2**20 elements, one after the other, under the
seeds 0, 1, 2, ... . Neighbouring seeds are the hard case; in training the seeds themselves are random. The words come
from the C kernels, which tests hold to be those of every other backend.
"""

import os
import sys

import torch

from dropact.kernels import cpu

WORDS = 1 << 20


def main() -> None:
    if cpu.extension is None:
        sys.exit(f"the C extension is needed for speed: {cpu.description}")
    out = torch.empty(WORDS, dtype=torch.int32)
    stream = sys.stdout.fileno()
    seed = 0
    while True:
        cpu.bits(seed, out)
        view = memoryview(out.numpy()).cast("B")
        try:
            while view:
                view = view[os.write(stream, view) :]
        except BrokenPipeError:
            return
        seed += 1


if __name__ == "__main__":
    main()
