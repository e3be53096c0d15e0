/* The loops of _cpu.c that take an exponential, for the types of up to 32 bits: accelerated slopes, which are
 * grad * min(derivative + shape, cap), and ReLU or SiLU by random bits.
 * Included once for each instruction set by _cpu_loops.h. Computed in float32, rounded once; equal to the definition to
 * a few units in the last place, not to the bit: no law but speed fixes the polynomial of an exponential.
 */

/* 2**t, flat beyond +-126, by the nearest integer n and the minimax polynomial of degree 5 on |t - n| <= 1/2, whose
 * relative error is 7.5e-8. The sum with 3 * 2**22 + 127 leaves n + 127 in its lowest bits, where exponents begin. */
TARGET INLINE float ISA(exp2)(float t)
{
    t = t < -126.0f ? -126.0f : t; /* in this order a NaN stays one */
    t = t > 126.0f ? 126.0f : t;
    const float shifted = t + 12583039.0f, f = t - (shifted - 12583039.0f);
    float p = 1.32764725e-3f;
    p = MULTIPLY_ADD(p, f, 9.67554096e-3f);
    p = MULTIPLY_ADD(p, f, 5.55071309e-2f);
    p = MULTIPLY_ADD(p, f, 2.40221202e-1f);
    p = MULTIPLY_ADD(p, f, 6.93146944e-1f);
    p = MULTIPLY_ADD(p, f, 1.00000012f);
    uint32_t bits;
    memcpy(&bits, &shifted, 4);
    bits <<= 23;
    float power;
    memcpy(&power, &bits, 4);
    return p * power;
}

/* step + sigmoid(a * (x - b)) */
TARGET INLINE float ISA(slope_relu)(float x, float a, float b)
{
    const float e = ISA(exp2)(MULTIPLY_ADD(x, -a * LOG2_E, a * b * LOG2_E));
    return (float)(x > 0) + 1.0f / (1.0f + e);
}

/* tanh' + b * exp(-(x / a)**2), where tanh' = 4 t / (1 + t)**2, t = exp(-2 |x|) */
TARGET INLINE float ISA(slope_tanh)(float x, float a, float b)
{
    const float t = ISA(exp2)(-2 * LOG2_E * fabsf(x)), u = x * (ROOT_LOG2_E / a), v = 1.0f + t;
    return 4.0f * t / (v * v) + b * ISA(exp2)(-(u * u));
}

/* sigmoid' + b * exp(-(x / a)**2), where sigmoid' = t / (1 + t)**2, t = exp(-|x|) */
TARGET INLINE float ISA(slope_sigmoid)(float x, float a, float b)
{
    const float t = ISA(exp2)(-LOG2_E * fabsf(x)), u = x * (ROOT_LOG2_E / a), v = 1.0f + t;
    return t / (v * v) + b * ISA(exp2)(-(u * u));
}

#define SLOPE(ACTIVATION, NAME, U) \
    TARGET static void ISA(slope_##ACTIVATION##_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const int64_t last = end * BLOCK < job->count ? end * BLOCK : job->count; \
        const float a = (float)job->p, b = (float)job->q, cap = (float)job->r; \
        const U *grad = job->a, *x = job->b; \
        U *out = job->out; \
        _Pragma("GCC ivdep") for (int64_t i = begin * BLOCK; i < last; i++) { \
            const float slope = ISA(slope_##ACTIVATION)(from_##NAME(x[i]), a, b); \
            out[i] = to_##NAME(from_##NAME(grad[i]) * (slope > cap ? cap : slope)); \
        } \
    }
#define SLOPES(ACTIVATION) \
    SLOPE(ACTIVATION, f16, uint16_t) \
    SLOPE(ACTIVATION, bf16, uint16_t) \
    SLOPE(ACTIVATION, f32, uint32_t)
SLOPES(relu)
SLOPES(tanh)
SLOPES(sigmoid)

/* ---- relu_or_silu ---- */

/* exp(x) for x <= 0; whatever for others. Where exp2 is flat it is 0, as a factor may be large there. */
TARGET INLINE float ISA(exp_below_zero)(float x)
{
    const float e = ISA(exp2)(LOG2_E * x);
    return x < -87.0f ? 0.0f : e;
}

/* x * sigmoid(x), and its derivative sigmoid(x) * (1 + x * sigmoid(-x)); likewise */
TARGET INLINE float ISA(silu)(float x)
{
    const float e = ISA(exp_below_zero)(x);
    return x * (e / (1.0f + e));
}
TARGET INLINE float ISA(silu_slope)(float x)
{
    const float e = ISA(exp_below_zero)(x), r = 1.0f / (1.0f + e);
    return e * r * MULTIPLY_ADD(x, r, 1.0f);
}

/* Below zero as an unsigned word: between -0, which is not, and -inf. There SiLU where it is chosen, else 0; the gradient
 * of zeros passes where it is chosen. Masks, as the conditional operator on 16-bit words is not vectorised. */
#define BELOW_ZERO(U, SIGN, INF, v) ((U)0 - (U)((U)((v) - (SIGN) - 1) < (INF)))
#define RELU_OR_SILU(NAME, U, SIGN, INF) \
    TARGET static void ISA(relu_or_silu_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const Below t = below(job->p); \
        EACH_BLOCK \
        const U *x = (const U *)job->a + base; \
        U *y = (U *)job->out + base; \
        EACH_ELEMENT \
        { \
            const U v = x[j], silu = to_##NAME(ISA(silu)(from_##NAME(v))); \
            const U chosen = (int32_t)word(k, (uint32_t)j) <= t.last ? (U)t.any : 0; \
            const U negative = BELOW_ZERO(U, SIGN, INF, v); \
            y[j] = (U)((v & (U)~negative) | (silu & chosen & negative)); \
        } \
    } \
    } \
    TARGET static void ISA(relu_or_silu_backward_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const Below t = below(job->p); \
        EACH_BLOCK \
        const U *grad = (const U *)job->a + base, *x = (const U *)job->b + base; \
        U *out = (U *)job->out + base; \
        EACH_ELEMENT \
        { \
            const U g = grad[j], v = x[j], sloped = to_##NAME(from_##NAME(g) * ISA(silu_slope)(from_##NAME(v))); \
            const U chosen = (int32_t)word(k, (uint32_t)j) <= t.last ? (U)t.any : 0; \
            const U negative = BELOW_ZERO(U, SIGN, INF, v), zero = (U)0 - (U)((U)(v & (U)~(U)(SIGN)) == 0); \
            out[j] = (U)((g & (U)~negative) | (sloped & negative)) & (U)(chosen | (U)~(U)(negative | zero)); \
        } \
    } \
    }
RELU_OR_SILU(f16, uint16_t, 0x8000u, 0x7C00u)
RELU_OR_SILU(bf16, uint16_t, 0x8000u, 0x7F80u)
RELU_OR_SILU(f32, uint32_t, 0x80000000u, 0x7F800000u)

#undef BELOW_ZERO
#undef RELU_OR_SILU
#undef SLOPE
#undef SLOPES
