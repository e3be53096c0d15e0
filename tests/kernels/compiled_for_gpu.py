"""Compiles every kernel, as its function launches it, for a GPU that need not be there; prints how each reads memory.

Triton's interpreter takes code that its compiler refuses: the two branches of a function may return different types.
Run in a process of its own: Triton decides when it is imported whether kernels are interpreted.
"""

import json
import re
import sys

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from dropact._activations import FORMULAS, IDENTITY, Fused
from dropact.kernels import cuda

DTYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32", torch.float64: "fp64"}
POINTERS = {dtype: f"*{name}" for dtype, name in DTYPES.items()} | {torch.int64: "*i64", torch.int32: "*i32"}
ELEMENTS = 4096  # a multiple of 16, as nearly every activation's: reads are then of 16 bytes


def compiled(capability, kernel, arguments, constants, options):
    names = kernel.arg_names[: len(arguments)]
    kinds = [
        POINTERS[a.dtype] if isinstance(a, torch.Tensor) else "i64" if abs(a) >= 2**31 else "i32" for a in arguments
    ]
    aligned = [i for i, a in enumerate(arguments) if isinstance(a, torch.Tensor) or a == ELEMENTS]
    source = ASTSource(
        kernel,
        signature=dict(zip(names, kinds, strict=True)) | dict.fromkeys(constants, "constexpr"),
        constexprs=constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    code = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm
    assert code["cubin"]
    return sorted(set(re.findall(r"ld\.global\.v\w+\.\w+", code["ptx"])))


def main(capability):
    found = {}

    def launch(kernel, count, *arguments, **constants):
        options = {"num_warps": cuda._WARPS, "enable_fp_fusion": False}
        name = "-".join([kernel.__name__, DTYPES[arguments[0].dtype], *(str(v) for v in constants.values())])
        found[name] = compiled(capability, kernel, (*arguments, count), constants, options)

    cuda._launch = launch
    seed, prob = torch.tensor(7), torch.tensor(0.3, dtype=torch.float64)
    for dtype in DTYPES:
        x = torch.zeros(ELEMENTS, dtype=dtype)
        cuda.drop_relu(x, seed, prob, x)
        cuda.drop_relu_backward(x, x, x)
        for name in FORMULAS if dtype == torch.float32 else ["gelu"]:
            f = Fused(name, (0.5, 2.0, 1.0))
            cuda.pair(x, seed, prob, f, IDENTITY, False, x)
            cuda.pair_backward(x, x, seed, prob, f, IDENTITY, False, x)
        cuda.pair(x, None, prob, f, IDENTITY, True, x)
        for lower in (0.125, 0.0):  # 0 is a narrower argument
            cuda.randomized_relu(x, seed, lower, 1 / 3, x)
            cuda.randomized_relu_backward(x, x, seed, lower, 1 / 3, x)
        cuda.choose(x, x, seed, prob, x)
        cuda.choose_backward(x, seed, prob, x, x)
        for activation in ("relu", "tanh", "sigmoid"):
            cuda.accelerated_backward(x, x, activation, 5.0, -0.5, float("inf"), x)
    compiled(capability, cuda._first_keys, (seed, torch.zeros(2, dtype=torch.int32)), {}, {"num_warps": 1})
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]))
