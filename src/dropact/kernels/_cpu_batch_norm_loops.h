/* The loops of BatchNorm fused with what follows it, for tensors whose channels lie innermost. Included once for each
 * instruction set by _cpu_loops.h.
 *
 * An element's channel is its place in memory modulo the number of channels. So that the inner loops run over any
 * STRIP elements without asking, what belongs to a channel is laid out repeatedly, channels + STRIP long, and read from
 * the channel of the strip's first element on. Sums are kept per segment of memory, whoever walks it: they do not depend
 * on the number of threads.
 */

#define EACH_STRIP(FROM, TO) \
    for (int64_t first = (FROM), past = (TO); first < past; first += STRIP) { \
        const int32_t n = (int32_t)(past - first < STRIP ? past - first : STRIP); \
        const int64_t channel = first % norm->channels;
#define EACH_IN_STRIP _Pragma("GCC ivdep") for (int32_t j = 0; j < n; j++)

/* Where dropped or positive, as drop_relu has it; the limit is that of drop_relu. */
#define KEPT(U, S, v, above) ((v) & (U)((U)0 - (U)(((S)(v) > 0) | ((v) > (above)))))

#define BATCH_NORM(NAME, U, S, SIGN, INF) \
    /* sums of x - pivot and of its square */ \
    TARGET static void ISA(norm_statistics_##NAME)(const Norm *norm, int64_t begin, int64_t end) \
    { \
        const int64_t lanes = norm->channels + STRIP; \
        for (int64_t segment = begin; segment < end; segment++) { \
            float *sums = norm->sums + 2 * lanes * segment, *squares = sums + lanes; \
            memset(sums, 0, 2 * (size_t)lanes * sizeof *sums); \
            EACH_STRIP(segment * norm->segment, segment_end(norm, segment)) \
            const U *x = (const U *)norm->x + first; \
            const float *pivot = norm->a + channel; \
            float *s = sums + channel, *q = squares + channel; \
            EACH_IN_STRIP \
            { \
                const float d = from_##NAME(x[j]) - pivot[j]; \
                s[j] += d; \
                q[j] = MULTIPLY_ADD(d, d, q[j]); \
            } \
        } \
        } \
    } \
    /* a * x + b, plus another tensor, through an activation; rounded where the separate operators would round */ \
    TARGET INLINE void ISA(normalise_##NAME)(const Norm *norm, int64_t begin, int64_t end, int added, int activation) \
    { \
        const Below t = below(norm->p); \
        const U limit = (SIGN) | (INF), limit_dropped = t.any ? (SIGN) : limit; \
        for (int64_t block = begin; block < end; block++) { \
            const Keys k = keys(norm->seed, block); \
            const int64_t from = block * BLOCK, to = from + BLOCK < norm->count ? from + BLOCK : norm->count; \
            EACH_STRIP(from, to) \
            const U *x = (const U *)norm->x + first, *r = (const U *)norm->added + (added ? first : 0); \
            U *y = (U *)norm->out + first; \
            const float *a = norm->a + channel, *b = norm->b + channel; \
            const uint32_t place = (uint32_t)(first - from); \
            EACH_IN_STRIP \
            { \
                U v = to_##NAME(MULTIPLY_ADD(from_##NAME(x[j]), a[j], b[j])); \
                if (added) \
                    v = to_##NAME(from_##NAME(v) + from_##NAME(r[j])); \
                if (activation == NORM_RELU) \
                    v = KEPT(U, S, v, limit); \
                if (activation == NORM_DROP_RELU) { \
                    const U above = (int32_t)word(k, place + (uint32_t)j) <= t.last ? limit_dropped : limit; \
                    v = KEPT(U, S, v, above); \
                } \
                y[j] = v; \
            } \
        } \
        } \
    } \
    TARGET static void ISA(norm_forward_##NAME)(const Norm *norm, int64_t begin, int64_t end) \
    { \
        if (norm->added) \
            norm->activation == NORM_IDENTITY ? ISA(normalise_##NAME)(norm, begin, end, 1, NORM_IDENTITY) \
            : norm->activation == NORM_RELU   ? ISA(normalise_##NAME)(norm, begin, end, 1, NORM_RELU) \
                                              : ISA(normalise_##NAME)(norm, begin, end, 1, NORM_DROP_RELU); \
        else \
            norm->activation == NORM_IDENTITY ? ISA(normalise_##NAME)(norm, begin, end, 0, NORM_IDENTITY) \
            : norm->activation == NORM_RELU   ? ISA(normalise_##NAME)(norm, begin, end, 0, NORM_RELU) \
                                              : ISA(normalise_##NAME)(norm, begin, end, 0, NORM_DROP_RELU); \
    } \
    /* sums of the gradient behind the activation and of its product with x - mean */ \
    TARGET INLINE void ISA(gather_##NAME)(const Norm *norm, int64_t begin, int64_t end, int activation, int added) \
    { \
        const int64_t lanes = norm->channels + STRIP; \
        for (int64_t segment = begin; segment < end; segment++) { \
            float *sums = norm->sums + 2 * lanes * segment, *products = sums + lanes; \
            memset(sums, 0, 2 * (size_t)lanes * sizeof *sums); \
            EACH_STRIP(segment * norm->segment, segment_end(norm, segment)) \
            const U *grad = (const U *)norm->grad + first, *x = (const U *)norm->x + first; \
            const U *y = (const U *)norm->y + (activation ? first : 0); \
            U *to_added = (U *)norm->out2 + (added ? first : 0); \
            const float *mean = norm->a + channel; \
            float *s = sums + channel, *q = products + channel; \
            EACH_IN_STRIP \
            { \
                U g = grad[j]; \
                if (activation) \
                    g &= (U)((U)0 - (U)((U)(y[j] & (U)~(U)(SIGN)) != 0)); \
                if (added) \
                    to_added[j] = g; \
                const float f = from_##NAME(g); \
                s[j] += f; \
                q[j] = MULTIPLY_ADD(f, from_##NAME(x[j]) - mean[j], q[j]); \
            } \
        } \
        } \
    } \
    TARGET static void ISA(norm_gather_##NAME)(const Norm *norm, int64_t begin, int64_t end) \
    { \
        if (norm->activation == NORM_IDENTITY) \
            ISA(gather_##NAME)(norm, begin, end, 0, 0); /* its gradient is that of what was added as well */ \
        else if (norm->out2) \
            ISA(gather_##NAME)(norm, begin, end, 1, 1); \
        else \
            ISA(gather_##NAME)(norm, begin, end, 1, 0); \
    } \
    /* the gradient of x: a * gradient + b * x + c */ \
    TARGET INLINE void ISA(pass_##NAME)(const Norm *norm, int64_t begin, int64_t end, int activation) \
    { \
        const int64_t last = end * BLOCK < norm->count ? end * BLOCK : norm->count; \
        EACH_STRIP(begin * BLOCK, last) \
        const U *grad = (const U *)norm->grad + first, *x = (const U *)norm->x + first; \
        const U *y = (const U *)norm->y + (activation ? first : 0); \
        const float *a = norm->a + channel, *b = norm->b + channel, *c = norm->c + channel; \
        U *out = (U *)norm->out + first; \
        EACH_IN_STRIP \
        { \
            U g = grad[j]; \
            if (activation) \
                g &= (U)((U)0 - (U)((U)(y[j] & (U)~(U)(SIGN)) != 0)); \
            const float shift = MULTIPLY_ADD(b[j], from_##NAME(x[j]), c[j]); \
            out[j] = to_##NAME(MULTIPLY_ADD(a[j], from_##NAME(g), shift)); \
        } \
    } \
    } \
    TARGET static void ISA(norm_pass_##NAME)(const Norm *norm, int64_t begin, int64_t end) \
    { \
        if (norm->activation == NORM_IDENTITY) \
            ISA(pass_##NAME)(norm, begin, end, 0); \
        else \
            ISA(pass_##NAME)(norm, begin, end, 1); \
    }
BATCH_NORM(f16, uint16_t, int16_t, 0x8000u, 0x7C00u)
BATCH_NORM(bf16, uint16_t, int16_t, 0x8000u, 0x7F80u)
BATCH_NORM(f32, uint32_t, int32_t, 0x80000000u, 0x7F800000u)

static const NormLoop ISA(NORM_LOOPS)[NORM_PASSES][DTYPES] = {
    [NORM_STATISTICS] = {ISA(norm_statistics_f16), ISA(norm_statistics_bf16), ISA(norm_statistics_f32), NULL},
    [NORM_FORWARD] = {ISA(norm_forward_f16), ISA(norm_forward_bf16), ISA(norm_forward_f32), NULL},
    [NORM_GATHER] = {ISA(norm_gather_f16), ISA(norm_gather_bf16), ISA(norm_gather_f32), NULL},
    [NORM_PASS] = {ISA(norm_pass_f16), ISA(norm_pass_bf16), ISA(norm_pass_f32), NULL},
};

#undef EACH_STRIP
#undef EACH_IN_STRIP
#undef KEPT
#undef BATCH_NORM
