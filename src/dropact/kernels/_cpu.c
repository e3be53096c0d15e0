/* The fused operations for CPU tensors: kernels/reference.py in C, equal to it bit by bit.
 *
 * Plain C on raw pointers, no torch headers: one build serves every torch and, by the limited API, every Python.
 * Vectorised by the compiler; on x86-64 each loop is compiled for AVX-512, AVX2 and the baseline and picked at run time
 * (by hand: gcc's target_clones compares names of processors, and gave a newer one the baseline). NEON is the baseline
 * on 64-bit Arm.
 *
 * Threads. A second OpenMP runtime in the process would fight torch's for the cores (measured at up to ten times the
 * time of the loop itself), so this file links none. cpu.py asks the dynamic linker for GOMP_parallel *as libtorch_cpu
 * sees it*: libgomp, LLVM's and Intel's runtimes all export that symbol, and what is found is the very pool that
 * torch's own operators run on. Where there is none, the loops run on the calling thread. (Asked from here, the wheel
 * would need the glibc that dlsym was built with, 2.34, where torch's needs 2.28.)
 */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__) /* gcc and clang */
#define X86_64 1
#endif
#ifdef _MSC_VER
#define INLINE static __forceinline
#else
#define INLINE static inline __attribute__((always_inline))
#endif

/* ---- bits: the same lines as _random.py ---- */

#define BLOCK 4096 /* elements; divides a page */
#define M1 0x21F0AAADu
#define M2 0x735A2D97u
#define M3 0x31848BABu

typedef struct {
    uint32_t start, two;
} Keys;

INLINE uint32_t mix(uint32_t x)
{
    x = (x ^ (x >> 16)) * M1;
    x = (x ^ (x >> 15)) * M2;
    return x ^ (x >> 15);
}

/* The second key, and what the first key and the first shift make of a block's index: within a block only the lowest 12
 * bits change, which the shift by 16 drops. */
INLINE Keys keys(uint64_t seed, int64_t block)
{
    const uint64_t index = (uint64_t)block * BLOCK;
    const uint32_t low = (uint32_t)seed, high = (uint32_t)(seed >> 32), page = (uint32_t)(index >> 32);
    const uint32_t h = (uint32_t)index ^ mix(mix(mix(low ^ 0x243F6A88u) ^ high) + page);
    const Keys k = {h ^ (h >> 16), mix(mix(mix(high ^ 0x13198A2Eu) ^ low) ^ page)};
    return k;
}

INLINE uint32_t word(Keys k, uint32_t j)
{
    uint32_t h = (k.start ^ j) * M1;
    h = (h ^ (h >> 15) ^ k.two) * M2;
    return (h ^ (h >> 15)) * M3;
}

/* ---- one job: a range of blocks of a dense tensor ---- */

typedef struct Job Job;
typedef void (*Loop)(const Job *, int64_t, int64_t);
typedef void (*Run)(float *, int32_t, const float *);
struct Job {
    Loop loop;
    const void *a, *b;
    void *out, *out2;
    int64_t count;
    uint64_t seed;
    double p, q;
    int f, g, mean; /* of a pair: which activations, their settings, and whether their mean is asked for */
    float of_f[3], of_g[3];
};

/* The threshold as the largest word, read as a signed one, that is still below it; `any` is 0 when none is. A rate
 * outside [0, 1] counts as the nearer end, NaN as 0. */
typedef struct {
    int32_t last;
    uint32_t any;
} Below;

INLINE Below below(double prob)
{
    const double inside = prob > 0 ? (prob < 1 ? prob : 1) : 0;
    uint64_t t = (uint64_t)llrint(inside * 4294967296.0);
    Below r = {(int32_t)((int64_t)(t ? t - 1 : 0) - 2147483648LL), t ? ~0u : 0u};
    return r;
}

#define EACH_BLOCK                                                                                                     \
    for (int64_t block = begin; block < end; block++) {                                                                \
        const int64_t base = block * BLOCK;                                                                            \
        const int32_t len = (int32_t)(job->count - base < BLOCK ? job->count - base : BLOCK);                          \
        const Keys k = keys(job->seed, block);                                                                         \
        (void)k;
/* Elements do not depend on each other, also where the output is written over the input. */
#define EACH_ELEMENT _Pragma("GCC ivdep") for (int32_t j = 0; j < len; j++)

/* Floating-point words as integers, and back. In integers, because no compiler at hand vectorises _Float16. */
#define AS_IS(NAME, U, F) \
    INLINE F from_##NAME(U bits) \
    { \
        F f; \
        memcpy(&f, &bits, sizeof f); \
        return f; \
    } \
    INLINE U to_##NAME(F f) \
    { \
        U bits; \
        memcpy(&bits, &f, sizeof bits); \
        return bits; \
    }
AS_IS(f32, uint32_t, float)
AS_IS(f64, uint64_t, double)

INLINE float from_bf16(uint16_t x) { return from_f32((uint32_t)x << 16); }
/* To nearest, ties to even. A NaN that began as a bfloat16 stays one: the lower half of its bits is 0. */
INLINE uint16_t to_bf16(float f)
{
    const uint32_t bits = to_f32(f);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

/* The bits moved into place are the number times 2**-112, subnormal ones too; only the largest exponent is another. */
INLINE float from_f16(uint16_t x)
{
    const uint32_t magnitude = x & 0x7FFFu;
    const uint32_t bits = to_f32(from_f32(magnitude << 13) * 0x1p112f) | (magnitude >= 0x7C00u ? 0x7F800000u : 0u);
    return from_f32(bits | (uint32_t)(x & 0x8000u) << 16);
}
/* To nearest, ties to even. Below 2**-14 the sum with 1/2 rounds where float16 does, its last bit being 2**-24. */
INLINE uint16_t to_f16(float f)
{
    const uint32_t bits = to_f32(f), magnitude = bits & 0x7FFFFFFFu;
    const uint32_t small = to_f32(from_f32(magnitude) + 0.5f) - 0x3F000000u;
    const uint32_t normal = (magnitude - 0x38000000u + 0x0FFFu + ((magnitude >> 13) & 1u)) >> 13;
    const uint32_t large = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
    const uint32_t number = magnitude < 0x38800000u ? small : magnitude >= 0x47800000u ? large : normal;
    return (uint16_t)(number | (bits >> 16 & 0x8000u));
}

/* a * b + c rounded once, without an instruction for it, so that every processor gives the same bits. The product is exact
 * in double; the sum is rounded to odd there, after which rounding it to float is as if it had been exact. */
INLINE float multiply_add(float a, float b, float c)
{
    const double product = (double)a * b, sum = product + c, c_in_sum = sum - product;
    const double lost = (product - (sum - c_in_sum)) + (c - c_in_sum); /* NaN where the sum is not finite */
    const uint64_t bits = to_f64(sum), even = ~bits & 1;
    return (float)from_f64(bits + (lost > 0 || lost < 0 ? ((lost > 0) == (sum > 0) ? even : 0 - even) : 0));
}

enum { F16, BF16, F32, F64, DTYPES };
enum { DROP, DROP_BACK, CHOOSE_FORWARD, CHOOSE_BACK, RRELU, RRELU_BACK, BITS, PAIR, OPERATIONS };

/* In the order of the table's rows: dropact/kernels/cpu.py has their names in the same. */
#define EACH_ACTIVATION(DO) \
    DO(identity) DO(relu) DO(negative_part) DO(leaky_relu) DO(hardtanh) DO(elu) DO(gelu) DO(gelu_tanh) DO(silu) \
    DO(silu_below_zero) DO(mish) DO(tanh) DO(sigmoid) DO(softplus) DO(logsigmoid) DO(softsign) DO(hardswish) \
    DO(hardsigmoid) DO(accelerated_relu) DO(accelerated_tanh) DO(accelerated_sigmoid)
#define COUNTED(NAME) +1
enum { ACTIVATIONS = 0 EACH_ACTIVATION(COUNTED) };

/* A number as a sum whose second part is below the last place of the first. */
typedef struct {
    float high, low;
} Two;

#define LOG2_E 1.44269504f

#define TARGET
#define ISA(name) name##_baseline
#ifdef __FP_FAST_FMAF
#define MULTIPLY_ADD(a, b, c) __builtin_fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) multiply_add(a, b, c)
#endif
#include "_cpu_loops.h"
#undef MULTIPLY_ADD
#ifdef X86_64
#define MULTIPLY_ADD(a, b, c) __builtin_fmaf(a, b, c)
#define TARGET __attribute__((target("avx2,fma,f16c,bmi2")))
#define ISA(name) name##_avx2
#include "_cpu_loops.h"
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")))
#define ISA(name) name##_avx512
#include "_cpu_loops.h"
#endif

/* ---- threads ---- */

typedef void (*Parallel)(void (*)(void *), void *, unsigned, unsigned);
static Parallel gomp_parallel;
static int (*omp_max_threads)(void), (*omp_thread)(void), (*omp_threads)(void), (*omp_inside)(void);

/* As torch's own elementwise operators: below this many elements a thread is not worth waking. */
#define GRAIN 32768

static void share(void *data)
{
    const Job *job = data;
    const int64_t blocks = (job->count + BLOCK - 1) / BLOCK;
    const int64_t threads = omp_threads(), thread = omp_thread();
    job->loop(job, blocks * thread / threads, blocks * (thread + 1) / threads);
}

static int64_t threads_for(int64_t count)
{
    if (!gomp_parallel || count <= GRAIN || omp_inside())
        return 1;
    const int64_t useful = (count + GRAIN - 1) / GRAIN, most = omp_max_threads();
    return useful < most ? useful : most;
}

static void run(Job *job)
{
    const int64_t threads = threads_for(job->count);
    if (threads > 1)
        gomp_parallel(share, job, (unsigned)threads, 0);
    else
        job->loop(job, 0, (job->count + BLOCK - 1) / BLOCK);
}

/* use_threads(omp_get_max_threads, omp_get_thread_num, omp_get_num_threads, omp_in_parallel, GOMP_parallel) as torch
 * sees them, addresses as integers */
static PyObject *use_threads(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 5)
        return PyErr_Format(PyExc_TypeError, "use_threads takes 5 arguments, got %zd", n);
    void *found[5];
    for (int i = 0; i < 5; i++)
        found[i] = PyLong_AsVoidPtr(args[i]);
    if (PyErr_Occurred())
        return NULL;
    *(void **)&omp_max_threads = found[0];
    *(void **)&omp_thread = found[1];
    *(void **)&omp_threads = found[2];
    *(void **)&omp_inside = found[3];
    *(void **)&gomp_parallel = found[4];
    Py_RETURN_NONE;
}

/* ---- the Python side: run(operation, dtype, count, a, b, out, out2, seed, p, q), all pointers as integers ---- */

static const Loop (*loops)[DTYPES] = LOOPS_baseline;

/* use_instructions(name or "best") -> the name of the set now in use */
static PyObject *use_instructions(PyObject *self, PyObject *name)
{
    PyObject *bytes = PyUnicode_AsUTF8String(name);
    if (!bytes)
        return NULL;
    const char *wanted = PyBytes_AsString(bytes), *used = NULL;
    const int best = !strcmp(wanted, "best");
#ifdef X86_64
    __builtin_cpu_init();
    if ((best || !strcmp(wanted, "avx512")) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        loops = LOOPS_avx512, used = "avx512";
    if (!used && (best || !strcmp(wanted, "avx2")) && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        loops = LOOPS_avx2, used = "avx2";
#endif
    if (!used && (best || !strcmp(wanted, "baseline")))
        loops = LOOPS_baseline, used = "baseline";
    PyObject *result = used ? PyUnicode_FromString(used)
                            : PyErr_Format(PyExc_ValueError, "this processor or build has no %s", wanted);
    Py_DECREF(bytes);
    return result;
}

static PyObject *run_py(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 10)
        return PyErr_Format(PyExc_TypeError, "run takes 10 arguments, got %zd", n);
    const long operation = PyLong_AsLong(args[0]), dtype = PyLong_AsLong(args[1]);
    Job job = {
        .count = PyLong_AsLongLong(args[2]),
        .a = PyLong_AsVoidPtr(args[3]),
        .b = PyLong_AsVoidPtr(args[4]),
        .out = PyLong_AsVoidPtr(args[5]),
        .out2 = PyLong_AsVoidPtr(args[6]),
        .seed = PyLong_AsUnsignedLongLongMask(args[7]),
        .p = PyFloat_AsDouble(args[8]),
        .q = PyFloat_AsDouble(args[9]),
    };
    if (PyErr_Occurred())
        return NULL;
    if (operation < 0 || operation >= OPERATIONS || dtype < 0 || dtype >= DTYPES || !loops[operation][dtype])
        return PyErr_Format(PyExc_ValueError, "no operation %ld for dtype %ld in this build", operation, dtype);
    job.loop = loops[operation][dtype];
    Py_BEGIN_ALLOW_THREADS
    run(&job);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* pair(dtype, count, a, b, out, seed, prob, mean, f, f0, f1, f2, g, g0, g1, g2): values of `a`; with `b` the gradient `a`
 * times the slopes at `b` */
static PyObject *pair_py(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 16)
        return PyErr_Format(PyExc_TypeError, "pair takes 16 arguments, got %zd", n);
    const long dtype = PyLong_AsLong(args[0]);
    Job job = {
        .count = PyLong_AsLongLong(args[1]),
        .a = PyLong_AsVoidPtr(args[2]),
        .b = PyLong_AsVoidPtr(args[3]),
        .out = PyLong_AsVoidPtr(args[4]),
        .seed = PyLong_AsUnsignedLongLongMask(args[5]),
        .p = PyFloat_AsDouble(args[6]),
        .mean = PyObject_IsTrue(args[7]),
        .f = (int)PyLong_AsLong(args[8]),
        .g = (int)PyLong_AsLong(args[12]),
    };
    for (int i = 0; i < 3; i++) {
        job.of_f[i] = (float)PyFloat_AsDouble(args[9 + i]);
        job.of_g[i] = (float)PyFloat_AsDouble(args[13 + i]);
    }
    if (PyErr_Occurred())
        return NULL;
    if (dtype < 0 || dtype >= F64 || job.f < 0 || job.f >= ACTIVATIONS || job.g < 0 || job.g >= ACTIVATIONS)
        return PyErr_Format(PyExc_ValueError, "no pair %d, %d for dtype %ld in this build", job.f, job.g, dtype);
    job.loop = loops[PAIR][dtype];
    Py_BEGIN_ALLOW_THREADS
    run(&job);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"run", (PyCFunction)(void (*)(void))run_py, METH_FASTCALL, NULL},
    {"pair", (PyCFunction)(void (*)(void))pair_py, METH_FASTCALL, NULL},
    {"use_instructions", use_instructions, METH_O, NULL},
    {"use_threads", (PyCFunction)(void (*)(void))use_threads, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "dropact.kernels._cpu", NULL, -1, METHODS, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__cpu(void)
{
    return PyModule_Create(&MODULE);
}
