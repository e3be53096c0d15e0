/* The gradient of the weights of a 3x3 convolution, for processors that multiply pairs of bfloat16 (AVX512_BF16).
 *
 *     out[o, i, kh, kw] = sum over n, h, w of grad[n, h, w, o] x[n, S h + kh - 1, S w + kw - 1, i]      S = 1, 2
 *
 * Images lie with the channels innermost. The instruction adds up two products, of two neighbours along what is summed:
 * pixels of a row. So each image is first written as 32-bit pairs of pixels, one pair per channel; the three taps of a
 * row of weights need pairs that begin at different pixels. Then 24 vectors of sums stay in registers while the rows of
 * an image pass by. A part of the images has sums of its own, added in order at the end: the same bits at any number of
 * threads.
 */

typedef struct {
    const uint16_t *x, *grad;
    float *out, *sums;
    int64_t images, height, width, in, out_channels, stride; /* of x */
    int64_t to_out, to_in, to_row, to_column;                /* strides of out, in elements */
    int64_t parts, next;
} Weights;

#define WEIGHT_SUMS(w) (9 * (w)->in * (w)->out_channels)
/* Channels a pass keeps sums of: of the input, and vectors of 16 of the output. */
#define WEIGHT_OUT(w) ((w)->out_channels % 32 ? 1 : 2)
#define WEIGHT_IN(w) (WEIGHT_OUT(w) == 1 ? 8 : 4)

/* What the processor has: nothing of this, all, or all and no AMX, with which oneDNN is several times as fast. */
enum { WEIGHTS_NONE, WEIGHTS_SLOWER, WEIGHTS_FASTER };
static int weights_available;

#if defined(X86_64) && (defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10)
#define HAVE_WEIGHTS 1
#include <cpuid.h>
#include <immintrin.h>

static int weights_found(void) /* where AVX-512 is */
{
    unsigned a, b, c, d, most;
    if (!__get_cpuid_count(7, 0, &most, &b, &c, &d) || most < 1)
        return WEIGHTS_NONE;
    const int amx = d >> 22 & 1; /* AMX_BF16 */
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) /* AVX512_BF16 */
        return WEIGHTS_NONE;
    return amx ? WEIGHTS_SLOWER : WEIGHTS_FASTER;
}

#define WEIGHTS_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define UNROLL _Pragma("GCC unroll 32")

/* The pixels at `a` and `b` (NULL: zeros) as pairs. */
WEIGHTS_TARGET INLINE void pair_pixels(const uint16_t *a, const uint16_t *b, int64_t channels, int32_t *out)
{
    for (int64_t c = 0; c < channels; c += 16) {
        const __m512i low = a ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(a + c))) : _mm512_setzero_si512();
        const __m512i high = b ? _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(b + c))) : _mm512_setzero_si512();
        _mm512_storeu_si512(out + c, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}

/* `count` pairs of the pixels first + j * step and `gap` further, none of them outside the row. */
WEIGHTS_TARGET INLINE int32_t *pair_row(
    const uint16_t *row, int64_t channels, int64_t first, int64_t gap, int64_t step, int64_t count, int32_t *out)
{
    const uint16_t *pixel = row + first * channels;
    if (channels == 16 && gap == 1) { /* both pixels in one vector */
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
        const __m512i places = _mm512_or_si512(low, _mm512_slli_epi32(_mm512_add_epi32(low, _mm512_set1_epi32(16)), 16));
        for (int64_t j = 0; j < count; j++, pixel += step * 16, out += 16)
            _mm512_storeu_si512(out, _mm512_permutexvar_epi16(places, _mm512_loadu_si512(pixel)));
        return out;
    }
    for (int64_t j = 0; j < count; j++, pixel += step * channels, out += channels)
        pair_pixels(pixel, pixel + gap * channels, channels, out);
    return out;
}

/* A row of x for the three taps: with stride 1 the pairs from pixel -1 on, of which the first tap takes all but the last
 * and the third all but the first, then those from pixel 0; with stride 2 the pairs of every second pixel from -1, 0, 1. */
WEIGHTS_TARGET INLINE void pair_for_taps(const Weights *w, const uint16_t *row, int32_t *out)
{
    const int64_t channels = w->in, width = w->width, pairs = width / w->stride / 2;
    if (w->stride == 1) {
        pair_pixels(NULL, row, channels, out);
        out = pair_row(row, channels, 1, 1, 2, pairs - 1, out + channels);
        pair_pixels(row + (width - 1) * channels, NULL, channels, out);
        pair_row(row, channels, 0, 1, 2, pairs, out + channels);
    } else {
        pair_pixels(NULL, row + channels, channels, out);
        out = pair_row(row, channels, 3, 2, 4, pairs - 1, out + channels);
        out = pair_row(row, channels, 0, 2, 4, pairs, out);
        pair_row(row, channels, 1, 2, 4, pairs, out);
    }
}

/* A pass takes so much that loading and storing its sums hardly counts, and so little that the first cache holds it: some
 * rows of an image, or some small images. */
#define BAND 128 /* pairs of pixels */
typedef struct {
    int64_t pairs, rows, images; /* pairs of a row, rows of grad, images taken together */
    int64_t second, third;       /* where the pairs of these taps begin in a row of x */
    int64_t x_row, x_image, grad_row, grad_image;
} Band;

INLINE Band band_of(const Weights *w)
{
    const int64_t S = w->stride, pairs = w->width / S / 2, all = w->height / S;
    const int64_t some = pairs < BAND ? BAND / pairs : 1, rows = some < all ? some : all;
    const int64_t small = BAND / 2 / (rows * pairs), images = small < 1 || rows < all ? 1 : small < 16 ? small : 16;
    const Band band = {
        .pairs = pairs,
        .rows = rows,
        .images = images,
        .second = (S == 1 ? pairs + 1 : pairs) * w->in,
        .third = (S == 1 ? 1 : 2 * pairs) * w->in,
        .x_row = (S == 1 ? 2 * pairs + 1 : 3 * pairs) * w->in,
        .x_image = (S == 1 ? 2 * pairs + 1 : 3 * pairs) * w->in * ((rows - 1) * S + 3),
        .grad_row = pairs * w->out_channels,
        .grad_image = pairs * w->out_channels * rows,
    };
    return band;
}

/* Adds the products of `rows` rows of each image to the sums of IN x OUT * 16 channels and three taps. */
#define WEIGHTS_PASS(NAME, IN, OUT) \
    WEIGHTS_TARGET INLINE void NAME( \
        const Weights *w, const Band *band, const int32_t *x, const int32_t *grad, int64_t images, int64_t rows, \
        float *sums) \
    { \
        const int64_t pairs = band->pairs, in = w->in, out = w->out_channels, x_row = w->stride * band->x_row; \
        const int64_t second = band->second, third = band->third; \
        __m512 s[3][IN][OUT]; \
        UNROLL for (int k = 0; k < 3; k++) UNROLL for (int c = 0; c < IN; c++) UNROLL for (int v = 0; v < OUT; v++) \
            s[k][c][v] = _mm512_loadu_ps(sums + ((k * IN + c) * OUT + v) * 16); \
        for (int64_t n = 0; n < images; n++) for (int64_t r = 0; r < rows; r++) { \
            const int32_t *a = x + n * band->x_image + r * x_row, *b = grad + n * band->grad_image + r * band->grad_row; \
            for (int64_t p = 0; p < pairs; p++, a += in, b += out) { \
                __m512bh g[OUT]; \
                UNROLL for (int v = 0; v < OUT; v++) g[v] = (__m512bh)_mm512_loadu_si512(b + v * 16); \
                UNROLL for (int c = 0; c < IN; c++) UNROLL for (int k = 0; k < 3; k++) { \
                    const __m512bh pixels = (__m512bh)_mm512_set1_epi32((k == 0 ? a : k == 1 ? a + second : a + third)[c]); \
                    UNROLL for (int v = 0; v < OUT; v++) s[k][c][v] = _mm512_dpbf16_ps(s[k][c][v], g[v], pixels); \
                } \
            } \
        } \
        UNROLL for (int k = 0; k < 3; k++) UNROLL for (int c = 0; c < IN; c++) UNROLL for (int v = 0; v < OUT; v++) \
            _mm512_storeu_ps(sums + ((k * IN + c) * OUT + v) * 16, s[k][c][v]); \
    }
WEIGHTS_PASS(weights_pass_8, 8, 1)
WEIGHTS_PASS(weights_pass_4, 4, 2)

/* Sums of one part of the images: [groups of outputs][row of weights][groups of inputs][tap][input][output]. */
WEIGHTS_TARGET static void weights_part(const Weights *w, const Band *band, int64_t part, int32_t *x, int32_t *grad)
{
    const int64_t S = w->stride, height = w->height, rows = height / S, columns = w->width / S, pairs = band->pairs;
    const int64_t in = WEIGHT_IN(w), vectors = WEIGHT_OUT(w), end = w->images * (part + 1) / w->parts;
    float *sums = w->sums + part * WEIGHT_SUMS(w);
    memset(sums, 0, (size_t)WEIGHT_SUMS(w) * sizeof *sums);
    for (int64_t begin = w->images * part / w->parts, images; begin < end; begin += images) {
        images = end - begin < band->images ? end - begin : band->images;
        for (int64_t top = 0, bottom; top < rows; top = bottom) {
            bottom = top + band->rows < rows ? top + band->rows : rows;
            const int64_t x_top = top ? top * S - 1 : 0, x_bottom = S == 1 && bottom < rows ? bottom + 1 : bottom * S;
            for (int64_t n = 0; n < images; n++) {
                const uint16_t *from_x = w->x + (begin + n) * height * w->width * w->in;
                const uint16_t *from_grad = w->grad + (begin + n) * rows * columns * w->out_channels;
                for (int64_t h = x_top; h < x_bottom; h++)
                    pair_for_taps(w, from_x + h * w->width * w->in, x + n * band->x_image + (h - x_top) * band->x_row);
                for (int64_t h = top; h < bottom; h++)
                    pair_row(from_grad + h * columns * w->out_channels, w->out_channels, 0, 1, 2, pairs,
                             grad + n * band->grad_image + (h - top) * band->grad_row);
            }
            float *group = sums;
            for (int64_t o = 0; o < w->out_channels; o += vectors * 16)
                for (int64_t k = 0; k < 3; k++) {
                    /* the rows of which this row of weights sees pixels, not padding */
                    const int64_t first = !top && k == 0 ? 1 : top, last = S == 1 && bottom == rows && k == 2 ? rows - 1 : bottom;
                    const int32_t *a = x + (first * S + k - 1 - x_top) * band->x_row;
                    const int32_t *b = grad + (first - top) * band->grad_row + o;
                    for (int64_t i = 0; i < w->in; i += in, group += 3 * in * vectors * 16)
                        if (vectors == 1)
                            weights_pass_8(w, band, a + i, b, images, last - first, group);
                        else
                            weights_pass_4(w, band, a + i, b, images, last - first, group);
                }
        }
    }
}

static void weights_share(void *data)
{
    Weights *w = data;
    const Band band = band_of(w);
    int32_t *x = malloc((size_t)(band.images * (band.x_image + band.grad_image)) * sizeof *x);
    if (!x)
        return; /* the others take the parts */
    /* Whoever is free takes the next part: another process may hold one of the cores. */
    for (int64_t part; (part = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->parts;)
        weights_part(w, &band, part, x, x + band.images * band.x_image);
    free(x);
}

/* The parts' sums, in order, to where they belong. */
static void weights_collect(void *data)
{
    Weights *w = data;
    const int64_t in = WEIGHT_IN(w), out = WEIGHT_OUT(w) * 16, groups = w->in / in, all = WEIGHT_SUMS(w);
    const int64_t units = w->out_channels / out * 3 * groups;
    for (int64_t unit; (unit = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < units;) {
        const int64_t row = unit / groups % 3, i = unit % groups * in, o = unit / groups / 3 * out;
        const float *sums = w->sums + unit * 3 * in * out;
        for (int64_t tap = 0; tap < 3; tap++)
            for (int64_t c = 0; c < in; c++, sums += out) {
                float total[32] = {0};
                for (int64_t part = 0; part < w->parts; part++)
                    for (int64_t v = 0; v < out; v++)
                        total[v] += sums[part * all + v];
                float *to = w->out + o * w->to_out + (i + c) * w->to_in + row * w->to_row + tap * w->to_column;
                for (int64_t v = 0; v < out; v++)
                    to[v * w->to_out] = total[v];
            }
    }
}

static void weights_in_parallel(void (*work)(void *), Weights *w)
{
    const int64_t threads = threads_for(w->images * w->height * w->width * w->in);
    w->next = 0;
    if (threads > 1)
        gomp_parallel(work, w, (unsigned)threads, 0);
    else
        work(w);
}
#endif

/* weights_gradient(x, grad, out, images, height, width, in, out_channels, stride, to_out, to_in, to_row, to_column):
 * x and grad are bfloat16 with the channels innermost, out is float32 with these strides in elements */
static PyObject *weights_gradient(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 13)
        return PyErr_Format(PyExc_TypeError, "weights_gradient takes 13 arguments, got %zd", n);
    Weights w = {
        .x = PyLong_AsVoidPtr(args[0]),
        .grad = PyLong_AsVoidPtr(args[1]),
        .out = PyLong_AsVoidPtr(args[2]),
        .images = PyLong_AsLongLong(args[3]),
        .height = PyLong_AsLongLong(args[4]),
        .width = PyLong_AsLongLong(args[5]),
        .in = PyLong_AsLongLong(args[6]),
        .out_channels = PyLong_AsLongLong(args[7]),
        .stride = PyLong_AsLongLong(args[8]),
        .to_out = PyLong_AsLongLong(args[9]),
        .to_in = PyLong_AsLongLong(args[10]),
        .to_row = PyLong_AsLongLong(args[11]),
        .to_column = PyLong_AsLongLong(args[12]),
    };
    if (PyErr_Occurred())
        return NULL;
    const int64_t S = w.stride;
    if (!weights_available || (S != 1 && S != 2) || w.images < 1 || w.height < S || w.height % S || w.width < 2 * S ||
        w.width % (2 * S) || w.in < 16 || w.in % 16 || w.out_channels < 16 || w.out_channels % 16)
        return PyErr_Format(PyExc_ValueError, "no gradient of convolution weights for this processor or shape");
#ifdef HAVE_WEIGHTS
    const int64_t parts = WEIGHT_SUMS(&w) > 16384 ? 8 : 16;
    w.parts = parts < w.images ? parts : w.images;
    w.sums = malloc((size_t)(w.parts * WEIGHT_SUMS(&w)) * sizeof *w.sums);
    if (!w.sums)
        return PyErr_NoMemory();
    int complete;
    Py_BEGIN_ALLOW_THREADS
    weights_in_parallel(weights_share, &w);
    complete = w.next >= w.parts; /* else no thread had memory */
    if (complete)
        weights_in_parallel(weights_collect, &w);
    free(w.sums);
    Py_END_ALLOW_THREADS
    if (!complete)
        return PyErr_NoMemory();
#endif
    Py_RETURN_NONE;
}
