/* The loops of _cpu.c, included there once for each instruction set: TARGET is the attribute that selects it and
 * ISA(name) gives each function its own name. Each loop walks a range of blocks of one job.
 */

/* drop_relu, on the bit patterns: kept is what is positive (or +NaN) as a signed word, or above a limit as an unsigned
 * one: -0 where the nonlinearity is dropped, -inf elsewhere (beyond it lie the negative NaNs). All else becomes +0.
 */
#define DROP_RELU(NAME, U, S, SIGN, INF) \
    TARGET static void ISA(drop_relu_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const Below t = below(job->p); \
        const U limit = (SIGN) | (INF), limit_dropped = t.any ? (SIGN) : limit; \
        EACH_BLOCK \
        const U *x = (const U *)job->a + base; \
        U *y = (U *)job->out + base; \
        EACH_ELEMENT \
        { \
            const U v = x[j], above = (int32_t)word(k, (uint32_t)j) <= t.last ? limit_dropped : limit; \
            y[j] = v & (U)((U)0 - (U)(((S)v > 0) | (v > above))); \
        } \
    } \
    }
DROP_RELU(f16, uint16_t, int16_t, 0x8000u, 0x7C00u)
DROP_RELU(bf16, uint16_t, int16_t, 0x8000u, 0x7F80u)
DROP_RELU(f32, uint32_t, int32_t, 0x80000000u, 0x7F800000u)
DROP_RELU(f64, uint64_t, int64_t, 0x8000000000000000u, 0x7FF0000000000000u)

/* drop_relu's backward needs the output alone: the gradient passes where the output is not zero */
#define DROP_RELU_BACKWARD(NAME, U, SIGN) \
    TARGET static void ISA(drop_relu_backward_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const int64_t last = end * BLOCK < job->count ? end * BLOCK : job->count; \
        const U *grad = job->a, *y = job->b; \
        U *out = job->out; \
        _Pragma("GCC ivdep") for (int64_t i = begin * BLOCK; i < last; i++) { \
            /* a mask and `&`: the conditional operator promotes 16-bit words to int and is not vectorised */ \
            out[i] = grad[i] & (U)((U)0 - (U)((U)(y[i] & (U)~(U)(SIGN)) != 0)); \
        } \
    }
DROP_RELU_BACKWARD(w16, uint16_t, 0x8000u)
DROP_RELU_BACKWARD(w32, uint32_t, 0x80000000u)
DROP_RELU_BACKWARD(w64, uint64_t, 0x8000000000000000u)

/* ---- choose: any type of the word's size ---- */

#define CHOSEN(U) ((U)0 - (U)(((int32_t)word(k, (uint32_t)j) <= t.last) & t.any & 1u))
#define CHOOSE(NAME, U, LANE) \
    TARGET static void ISA(choose_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const Below t = below(job->p); \
        EACH_BLOCK \
        const U *a = (const U *)job->a + base, *b = (const U *)job->b + base; \
        U *out = (U *)job->out + base; \
        EACH_ELEMENT \
        { \
            const LANE m = CHOSEN(LANE); \
            out[j] = (U)(((LANE)a[j] & m) | ((LANE)b[j] & ~m)); \
        } \
    } \
    } \
    TARGET static void ISA(choose_backward_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const Below t = below(job->p); \
        EACH_BLOCK \
        const U *grad = (const U *)job->a + base; \
        U *to_a = (U *)job->out + base, *to_b = (U *)job->out2 + base; \
        EACH_ELEMENT \
        { \
            const LANE m = CHOSEN(LANE), g = grad[j]; \
            to_a[j] = (U)(g & m); \
            to_b[j] = (U)(g & ~m); \
        } \
    } \
    }
CHOOSE(w16, uint16_t, uint32_t)
CHOOSE(w32, uint32_t, uint32_t)
CHOOSE(w64, uint64_t, uint64_t)

/* ---- randomized_relu: float64 in float64, all others in float32 ---- */

/* Negative is what lies between -0 and -inf as an unsigned word: +0 times a slope is +0 anyway. A power of two times the
 * width rounds nothing. The product is rounded before the sum is taken: the build switches contraction to FMA off.
 */
#define IN_FLOAT(U, negative, sloped, v) ((negative) ? (sloped) : (v))
#define IN_HALF(U, negative, sloped, v) (U)((v) ^ (((sloped) ^ (v)) & (U)((U)0 - (U)(negative)))) /* see above */
#define RANDOMIZED_RELU(NAME, U, F, SIGN, INF, SELECT) \
    TARGET static void ISA(randomized_relu_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const F lower = (F)job->p, width = (F)(job->q - job->p) * (F)(1.0 / 16777216.0); \
        EACH_BLOCK \
        const U *x = (const U *)job->a + base; \
        U *y = (U *)job->out + base; \
        EACH_ELEMENT \
        { \
            const F slope = (F)(int32_t)(word(k, (uint32_t)j) >> 8) * width + lower; \
            const U v = x[j], sloped = to_##NAME(from_##NAME(v) * slope); \
            y[j] = SELECT(U, (U)(v - (SIGN)) <= (INF), sloped, v); \
        } \
    } \
    } \
    TARGET static void ISA(randomized_relu_backward_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const F lower = (F)job->p, width = (F)(job->q - job->p) * (F)(1.0 / 16777216.0); \
        EACH_BLOCK \
        const U *grad = (const U *)job->a + base, *y = (const U *)job->b + base; \
        U *out = (U *)job->out + base; \
        EACH_ELEMENT \
        { \
            const F slope = (F)(int32_t)(word(k, (uint32_t)j) >> 8) * width + lower; \
            const U g = grad[j], v = y[j], sloped = to_##NAME(from_##NAME(g) * slope); \
            out[j] = SELECT(U, ((U)(v - (SIGN)) <= (INF)) | (v == 0), sloped, g); \
        } \
    } \
    }
RANDOMIZED_RELU(f16, uint16_t, float, 0x8000u, 0x7C00u, IN_HALF)
RANDOMIZED_RELU(bf16, uint16_t, float, 0x8000u, 0x7F80u, IN_HALF)
RANDOMIZED_RELU(f32, uint32_t, float, 0x80000000u, 0x7F800000u, IN_FLOAT)
RANDOMIZED_RELU(f64, uint64_t, double, 0x8000000000000000u, 0x7FF0000000000000u, IN_FLOAT)

/* The bits themselves, for tests of their quality. */
TARGET static void ISA(bits_w32)(const Job *job, int64_t begin, int64_t end)
{
    EACH_BLOCK
    uint32_t *out = (uint32_t *)job->out + base;
    EACH_ELEMENT
    {
        out[j] = word(k, (uint32_t)j);
    }
}
}

#define WIDE 1
#define FN(name) ISA(name##_wide)
#include "_cpu_activations.h"
#undef WIDE
#undef FN
#define WIDE 0
#define FN(name) ISA(name##_narrow)
#include "_cpu_activations.h"
#undef WIDE
#undef FN

/* ---- one of two activations, by a bit; or their mean ---- */

/* Part of a block, so much as both activations work on in the cache. */
#define PART 1024
#define PAIR(NAME, U, ACTIVATIONS) \
    TARGET static void ISA(pair_##NAME)(const Job *job, int64_t begin, int64_t end) \
    { \
        const Below t = below(job->p); \
        const int slope = job->b != NULL; \
        const Run f = ACTIVATIONS[job->f][slope], g = ACTIVATIONS[job->g][slope]; \
        const int plain = job->g == 0; /* the identity */ \
        const float share = (float)job->p, rest = (float)(1.0 - job->p); \
        float of_f[PART], of_g[PART]; \
        EACH_BLOCK \
        for (int32_t first = 0; first < len; first += PART) { \
            const int32_t part = len - first < PART ? len - first : PART; \
            const U *x = (const U *)(slope ? job->b : job->a) + base + first; \
            const U *grad = (const U *)job->a + base + first; \
            U *out = (U *)job->out + base + first; \
            EACH_OF_PART { of_f[j] = from_##NAME(x[j]); } \
            if (!plain) \
                memcpy(of_g, of_f, sizeof of_g); \
            f(of_f, part, job->of_f); \
            if (!plain) \
                g(of_g, part, job->of_g); \
            if (job->mean) { \
                if (plain) { \
                    EACH_OF_PART { of_g[j] = slope ? 1.0f : from_##NAME(x[j]); } \
                } \
                /* at 0 and 1 one alone, as 0 times infinity is no number */ \
                if (job->p == 1) { \
                    memcpy(of_f, of_g, sizeof of_f); \
                } else if (job->p != 0) { \
                    EACH_OF_PART { of_f[j] = rest * of_f[j] + share * of_g[j]; } \
                } \
                if (slope) { \
                    EACH_OF_PART { out[j] = to_##NAME(from_##NAME(grad[j]) * of_f[j]); } \
                } else { \
                    EACH_OF_PART { out[j] = to_##NAME(of_f[j]); } \
                } \
            } else if (slope) { \
                if (plain) { \
                    EACH_OF_PART { of_g[j] = 1.0f; } \
                } \
                EACH_OF_PART { \
                    const int chosen = ((int32_t)word(k, (uint32_t)(first + j)) <= t.last) & (int)(t.any & 1); \
                    out[j] = to_##NAME(from_##NAME(grad[j]) * (chosen ? of_g[j] : of_f[j])); \
                } \
            } else if (plain) { \
                EACH_OF_PART { \
                    const U m = (U)0 - (U)(((int32_t)word(k, (uint32_t)(first + j)) <= t.last) & t.any & 1u); \
                    out[j] = (U)((x[j] & m) | (to_##NAME(of_f[j]) & (U)~m)); \
                } \
            } else { \
                EACH_OF_PART { \
                    const int chosen = ((int32_t)word(k, (uint32_t)(first + j)) <= t.last) & (int)(t.any & 1); \
                    out[j] = to_##NAME(chosen ? of_g[j] : of_f[j]); \
                } \
            } \
        } \
    } \
    }
#define EACH_OF_PART _Pragma("GCC ivdep") for (int32_t j = 0; j < part; j++)
PAIR(f16, uint16_t, ISA(ACTIVATIONS_narrow))
PAIR(bf16, uint16_t, ISA(ACTIVATIONS_narrow))
PAIR(f32, uint32_t, ISA(ACTIVATIONS_wide))
#undef PAIR
#undef EACH_OF_PART
#undef PART

static const Loop ISA(LOOPS)[OPERATIONS][DTYPES] = {
    [DROP] = {ISA(drop_relu_f16), ISA(drop_relu_bf16), ISA(drop_relu_f32), ISA(drop_relu_f64)},
    [DROP_BACK] = {ISA(drop_relu_backward_w16), ISA(drop_relu_backward_w16), ISA(drop_relu_backward_w32),
                   ISA(drop_relu_backward_w64)},
    [CHOOSE_FORWARD] = {ISA(choose_w16), ISA(choose_w16), ISA(choose_w32), ISA(choose_w64)},
    [CHOOSE_BACK] = {ISA(choose_backward_w16), ISA(choose_backward_w16), ISA(choose_backward_w32),
                     ISA(choose_backward_w64)},
    [RRELU] = {ISA(randomized_relu_f16), ISA(randomized_relu_bf16), ISA(randomized_relu_f32), ISA(randomized_relu_f64)},
    [RRELU_BACK] = {ISA(randomized_relu_backward_f16), ISA(randomized_relu_backward_bf16),
                    ISA(randomized_relu_backward_f32), ISA(randomized_relu_backward_f64)},
    [BITS] = {NULL, NULL, ISA(bits_w32), NULL},
    [PAIR] = {ISA(pair_f16), ISA(pair_bf16), ISA(pair_f32), NULL},
};

#undef DROP_RELU
#undef DROP_RELU_BACKWARD
#undef CHOSEN
#undef CHOOSE
#undef RANDOMIZED_RELU
#undef IN_FLOAT
#undef IN_HALF
#undef TARGET
#undef ISA
