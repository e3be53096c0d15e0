"""The one source of random bits: a hash of (seed, element index), so a mask is never stored.

Bits of element ``i`` under seed ``s`` (all quantities are unsigned 32-bit words)::

    low, page = i & 0xFFFFFFFF, i >> 32
    k1 = mix(mix(mix(s_low ^ A) ^ s_high) + page)
    k2 = mix(mix(mix(s_high ^ B) ^ s_low) ^ page)
    h  = low ^ k1;  h ^= h >> 16;  h *= M1;  h ^= h >> 15;  h ^= k2;  h *= M2;  h ^= h >> 15;  h *= M3

``mix`` is the two-multiply hash that the hash-prospector search found to be the least biased (16, 0x21f0aaad, 15,
0x735a2d97, 15). For the elements two multiplications are not enough: under some seeds the mask then correlated with
itself shifted by 4,096 elements, at 0.035. A third, with the last constants of the same search's ``triple32``, leaves
nothing that tests can see (`tests/statistics`, `docs/randomness.md`). All elements of a tensor of up to 2**32 share one
pair of keys, so that an element costs three multiplications in whatever loop a compiler fuses it into. Under fixed keys
``h`` is a bijection, so no word repeats within a page: the number of dropped units of ``n`` has the variance of a
binomial times ``1 - n / 2**32``.

A word is kept in an int32, as two's complement: torch's unsigned types lack arithmetic, and an int64 takes twice the
vector registers. Multiplication wraps as it should; a right shift has to clear the copies of the sign. The keys, two to
a tensor, are computed in int64, where with multipliers below 2**31 no product of a word overflows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dropact._layout import inverse, storage_order

_WORD = 0xFFFFFFFF
_M1, _M2, _M3 = 0x21F0AAAD, 0x735A2D97, 0x31848BAB
_SALT1, _SALT2 = 0x243F6A88, 0x13198A2E  # digits of pi: nothing up the sleeve
_MINUS_INF = -(2**23)  # the bits of a float32's, as an int32
_VECTOR = 16  # elements that a processor's vector register holds, at most

_library = torch.library.Library("dropact", "FRAGMENT")
# Opaque to the compiler on purpose: torch.randint would be lowered to the compiler's own generator. The device comes as
# an argument rather than with the activations, which would keep the compiler from fusing the mask with what makes them.
_ANY_LAYOUT = torch.Tag.flexible_layout  # compiled checkpoints otherwise look for the strides of a tensor of theirs
_library.define("draw_seed(*, Device device) -> Tensor", tags=(torch.Tag.nondeterministic_seeded, _ANY_LAYOUT))
# Opaque as well, for compiled code: whatever is the same for all elements, or for every row of them, the compiler would
# write into the innermost loop. The two keys of the first page (each ``x ^ (x >> n)`` inlined into the next doubles the
# expression: half a minute for one activation), then the positions 0, 1, 2, ... within a row.
_library.define("keys(Tensor seed, SymInt row) -> Tensor", tags=_ANY_LAYOUT)
# The last word below the threshold, and the bits of the float32 -inf where there is one, of 0 where there is none.
_library.define("limit(Tensor drop_prob) -> Tensor", tags=_ANY_LAYOUT)


def _draw(*, device: torch.device) -> Tensor:
    return torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device=device)


_library.impl("draw_seed", _draw, "BackendSelect")  # no tensor among the arguments says which backend
_library.impl("draw_seed", _draw, "CompositeExplicitAutograd")
torch.library.register_fake(
    "dropact::draw_seed", lambda *, device: torch.empty((), dtype=torch.int64, device=device), lib=_library
)


def draw_seed(like: Tensor) -> Tensor:
    """One fresh seed, a 0-d int64 tensor on the device of ``like``, from torch's default generator.

    Eager and compiled code draw the same seeds from the same state of the generator; which layer gets which of them is,
    in a compiled model of several, up to the compiler's order of the layers (the same in every run).

    >>> _ = torch.manual_seed(0); a = draw_seed(torch.empty(3))
    >>> _ = torch.manual_seed(0); bool(a == draw_seed(torch.empty(3)))
    True
    """
    if torch.compiler.is_compiling():
        return torch.ops.dropact.draw_seed(device=like.device)
    return _draw(device=like.device)  # directly, so that vmap sees randint and applies its `randomness` rule


def as_seed(seed: int | Tensor | None, like: Tensor) -> Tensor:
    """``seed`` as a 0-d int64 tensor on the device of ``like``; ``None`` draws a fresh one.

    Raises:
        TypeError: a seed that is neither an int nor a 0-d int64 tensor.
        ValueError: an int outside [-2**63, 2**63).
    """
    if seed is None:
        return draw_seed(like)
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.dim() != 0:
            raise TypeError(
                f"seed must be an int or a 0-d int64 tensor, got a {seed.dtype} tensor of shape {tuple(seed.shape)}"
            )
        return seed.to(like.device)
    return torch.full((), check_seed(seed), dtype=torch.int64, device=like.device)


def check_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int or a 0-d int64 tensor, got {seed!r}")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed must lie in [-2**63, 2**63), got {seed}")
    return seed


def _mix(x: Any) -> Any:
    x = ((x ^ (x >> 16)) * _M1) & _WORD
    x = ((x ^ (x >> 15)) * _M2) & _WORD
    return x ^ (x >> 15)


def _keys(seed: Any, page: Any) -> tuple[Any, Any]:
    """The two keys of a page, from tensors or from Python's integers."""
    low, high = seed & _WORD, (seed >> 32) & _WORD
    key1 = _mix((_mix(_mix(low ^ _SALT1) ^ high) + page) & _WORD)
    key2 = _mix(_mix(_mix(high ^ _SALT2) ^ low) ^ page)
    return key1, key2


def _keys_op(seed: Tensor, row: int) -> Tensor:
    keys = torch.tensor(_keys(int(seed.item()), 0), device=seed.device).to(torch.int32)
    return torch.cat([keys, torch.arange(row, dtype=torch.int32, device=seed.device)])


_library.impl("keys", _keys_op, "CompositeExplicitAutograd")
torch.library.register_fake("dropact::keys", lambda seed, row: seed.new_empty(2 + row, dtype=torch.int32), lib=_library)


def _shifted(x: Tensor, n: int) -> Tensor:
    return (x >> n) & ((1 << (32 - n)) - 1)


def random_bits(seed: Tensor, index: Tensor) -> Tensor:
    """32 random bits for each element index.

    Args:
        seed: 0-d int64 tensor, any value.
        index: int64 tensor of any shape, values in [0, 2**63); or an int32 one, of the low words of values below 2**32.

    Returns:
        int32 tensor of the shape of ``index``, a pure function of seed and index.

    >>> seed, index = torch.tensor(7), torch.arange(3)
    >>> torch.equal(random_bits(seed, index), random_bits(seed, index))
    True
    """
    page = 0 if index.dtype == torch.int32 else (index >> 32) & _WORD
    key1, key2 = (key.to(torch.int32) for key in _keys(seed, page))
    return _hash(index.to(torch.int32), key1, key2)


def _hash(low: Tensor, key1: Tensor | int, key2: Tensor | int) -> Tensor:
    h = low ^ key1
    h = (h ^ _shifted(h, 16)) * _M1
    h = (h ^ _shifted(h, 15) ^ key2) * _M2
    return (h ^ _shifted(h, 15)) * _M3


def random_words(seed: Tensor, count: int) -> Tensor:
    """``random_bits`` of the elements below ``count``, few enough that asking for each operation is what takes time.

    >>> torch.equal(random_words(torch.tensor(7), 3), random_bits(torch.tensor(7), torch.arange(3)))
    True
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or count > 2**31:
        return random_bits_like(seed, torch.empty(count, device=seed.device))
    if seed.device.type != "cpu" or type(seed) is not Tensor:  # whose value Python cannot, or need not know
        keys = torch.ops.dropact.keys(seed, 0)
        return _hash(torch.arange(count, dtype=torch.int32, device=seed.device), keys[0], keys[1])
    key1, key2 = _keys(int(seed), 0)
    if count > 64:  # from there on vectors are faster
        low = torch.arange(count, dtype=torch.int32, device="cpu")
        return _hash(low, _signed(key1), _signed(key2))
    words = [_signed(_hash_on_host(index, key1, key2)) for index in range(count)]
    return torch.tensor(words, dtype=torch.int32, device="cpu")


def random_bits_like(seed: Tensor, x: Tensor) -> Tensor:
    """``random_bits`` of every element of ``x``, the element index being its position in memory.

    "Memory" is that of ``torch.empty_like(x)``: dense, in the storage order of ``x``. A kernel therefore walks memory
    once, in whatever format, and the mask of a sliced tensor is that of its dense copy.

    >>> x = torch.empty(1, 2, 1, 2).to(memory_format=torch.channels_last)
    >>> seed = torch.tensor(7)
    >>> torch.equal(random_bits_like(seed, x), random_bits(seed, torch.tensor([0, 2, 1, 3]).view(1, 2, 1, 2)))
    True
    """
    if x.numel() > 2**32:
        return random_bits(seed, _in_storage_order(torch.arange(x.numel(), device=x.device), x))
    compiling = torch.compiler.is_compiling()
    row = _row(x) if compiling and x.device.type == "cpu" else 0
    rows = x.numel() // max(row, 1)
    low = torch.arange(rows, dtype=torch.int32 if rows <= 2**31 else torch.int64, device=x.device).to(torch.int32)
    if compiling:
        keys = torch.ops.dropact.keys(seed, row)
        key1, key2 = keys[0], keys[1]
    else:
        key1, key2 = (key.to(torch.int32) for key in _keys(seed, 0))
    if row:
        low = ((low * row).unsqueeze(1) + keys[2:]).flatten()
    return _hash(_in_storage_order(low, x), key1, key2)


def _row(x: Tensor) -> int:
    """Length of the rows into which compiled code for a CPU cuts the memory of ``x``: its last dimensions, so many
    that they fill a vector; 0 if all do not.

    Made in registers, a vector of positions takes sixteen insertions, more than the hash; from memory, one load.
    """
    row = 1
    for d in reversed(storage_order(x)):
        row *= x.shape[d]
        if row >= _VECTOR:
            return row
    return 0


def _in_storage_order(values: Tensor, x: Tensor) -> Tensor:
    """``values``, one per element of the memory of ``x``, in its shape."""
    order = storage_order(x)
    return values.view([x.shape[d] for d in order]).permute(inverse(order))


def threshold(drop_prob: float | Tensor) -> int | Tensor:
    """The integer below which a word, read as a signed one, lies with probability ``drop_prob``.

    Exact to 2**-33, of a tensor's own value, in whatever dtype the activations are. Nobody has looked at that value:
    beyond 0 or 1, as arithmetic rounds, it counts as that end, and NaN, which is refused as a number, as 0.

    >>> threshold(0.0) == -(2**31), threshold(0.5), threshold(1.0) == 2**31
    (True, 0, True)
    """
    if isinstance(drop_prob, Tensor):
        # In float16 2**32 is infinite. float64, where the device has it.
        wide = drop_prob.float() if drop_prob.device.type == "mps" else drop_prob.double()
        return (wide.clamp(0, 1).nan_to_num() * 2.0**32).round().to(torch.int64) - 2**31
    return round(min(max(0.0, drop_prob), 1.0) * 2**32) - 2**31  # Python's max: NaN only where it comes first


def last_below(drop_prob: float | Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The last word below the threshold as int32, which the threshold itself may exceed, and a floor for what lies
    there: -inf in float32, or 0 if no word does."""
    if torch.compiler.is_compiling() and isinstance(drop_prob, Tensor) and device.type == "cpu":
        limit = torch.ops.dropact.limit(drop_prob)
        return limit[0], limit[1].view(torch.float32)
    found = threshold(drop_prob)
    # Filled in, not copied from the host, which a CUDA graph cannot capture.
    limit = found.to(device) if isinstance(found, Tensor) else torch.full((), found, dtype=torch.int64, device=device)
    return (limit - 1).clamp(min=-(2**31)).to(torch.int32), torch.where(limit > -(2**31), float("-inf"), 0.0)


def _limit_op(drop_prob: Tensor) -> Tensor:
    # round, as torch has it, is to even in ties
    last = threshold(float(drop_prob)) - 1
    words = [max(last, -(2**31)), _MINUS_INF if last >= -(2**31) else 0]
    return torch.tensor(words, dtype=torch.int32, device=drop_prob.device)


_library.impl("limit", _limit_op, "CompositeExplicitAutograd")
torch.library.register_fake("dropact::limit", lambda p: p.new_empty(2, dtype=torch.int32), lib=_library)


def is_chosen(bits: Tensor, drop_prob: float | Tensor) -> Tensor:
    """Boolean tensor, ``True`` with probability ``drop_prob``, independently for each word of ``bits``."""
    last, floor = last_below(drop_prob, bits.device)
    return (bits <= last) & (floor < 0)


def chosen_on_host(seed: int, count: int, drop_prob: float) -> list[int]:
    """The indices below ``count`` that ``is_chosen`` says True of, for what Python has to act on.

    The same words from Python's own integers: a few operators of torch cost more than the decision is worth.

    >>> bits = random_bits(torch.tensor(7), torch.arange(9))
    >>> chosen_on_host(7, 9, 0.5) == is_chosen(bits, 0.5).nonzero().flatten().tolist()
    True
    """
    key1, key2 = _keys(seed, 0)
    if count > 128:  # from there on vectors are faster
        bits = _hash(torch.arange(count, dtype=torch.int32, device="cpu"), _signed(key1), _signed(key2))
        return is_chosen(bits, drop_prob).nonzero().flatten().tolist()
    limit = threshold(drop_prob)
    return [index for index in range(count) if _signed(_hash_on_host(index, key1, key2)) < limit]


def derived_seed(base: int, number: int) -> int:
    """The seed of this number, from 0 to below 2**31, in the sequence that belongs to ``base``.

    >>> derived_seed(7, 0) == derived_seed(7, 0), derived_seed(7, 0) == derived_seed(7, 1)
    (True, False)
    """
    keys = _keys(base, 0)
    high, low = (_hash_on_host(2 * number + half, *keys) for half in (0, 1))
    return _signed(high) * 2**32 + low


def _hash_on_host(low: int, key1: int, key2: int) -> int:
    h = low ^ key1
    h = ((h ^ (h >> 16)) * _M1) & _WORD
    h = ((h ^ (h >> 15) ^ key2) * _M2) & _WORD
    return ((h ^ (h >> 15)) * _M3) & _WORD


def _signed(word: int) -> int:
    return word - 2**32 if word >> 31 else word


def unit_interval(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Uniform numbers in [0, 1) on a grid of 2**-24, exact in float32 and in float64."""
    return _shifted(bits, 8).to(dtype) * 2.0**-24
