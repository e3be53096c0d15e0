/* BatchNorm fused with a sum and an activation behind it: what _cpu.c exports of it. The loops are in
 * _cpu_batch_norm_loops.h; here the numbers of each channel are made of their sums, in float64.
 */

static const NormLoop (*norm_loops)[DTYPES] = NORM_LOOPS_baseline;

static void norm_share(void *data)
{
    const NormShare *share = data;
    const int64_t threads = omp_threads(), thread = omp_thread();
    share->loop(share->norm, share->units * thread / threads, share->units * (thread + 1) / threads);
}

static void norm_run(const Norm *norm, int pass, int dtype, int64_t units)
{
    NormShare share = {norm_loops[pass][dtype], norm, units};
    const int64_t threads = threads_for(norm->count);
    if (threads > 1)
        gomp_parallel(norm_share, &share, (unsigned)threads, 0);
    else
        share.loop(norm, 0, units);
}

static int64_t blocks_of(const Norm *norm) { return (norm->count + BLOCK - 1) / BLOCK; }
static int64_t segments_of(const Norm *norm) { return (norm->count + norm->segment - 1) / norm->segment; }

/* The two sums of each channel over all segments and lanes, always in this order. */
static void norm_collect(const Norm *norm, double *totals)
{
    const int64_t channels = norm->channels, lanes = channels + STRIP, segments = segments_of(norm);
    memset(totals, 0, 2 * (size_t)channels * sizeof *totals);
    for (int which = 0; which < 2; which++)
        for (int64_t segment = 0; segment < segments; segment++) {
            const float *sums = norm->sums + (2 * segment + which) * lanes;
            double *total = totals + which * channels;
            for (int64_t lane = 0; lane < lanes; lane += channels)
                for (int64_t c = 0, most = lanes - lane < channels ? lanes - lane : channels; c < most; c++)
                    total[c] += sums[lane + c];
        }
}

/* A channel's numbers stand at its place and repeat from there to the end. */
static void repeat(float *values, int64_t channels)
{
    for (int64_t lane = channels; lane < channels + STRIP; lane++)
        values[lane] = values[lane - channels];
}

static float element(const void *x, int dtype, int64_t i)
{
    if (dtype == F32)
        return ((const float *)x)[i];
    const uint16_t bits = ((const uint16_t *)x)[i];
    return dtype == BF16 ? from_bf16(bits) : from_f16(bits);
}

/* A number near each channel's mean, from up to SAMPLED rows. However the numbers lie, its squared distance from the mean
 * of m of N rows is at most N / m variances: that bounds what subtracting it leaves to cancel. */
#define SAMPLED 1024
static void norm_pivot(const Norm *norm, int dtype, float *pivot)
{
    const int64_t channels = norm->channels, rows = norm->count / channels, sampled = rows < SAMPLED ? rows : SAMPLED;
    for (int64_t c = 0; c < channels; c++)
        pivot[c] = 0;
    for (int64_t i = 0; i < sampled; i++)
        for (int64_t c = 0, row = rows * i / sampled; c < channels; c++)
            pivot[c] += element(norm->x, dtype, row * channels + c) / (float)sampled;
}

/* Everything that a call needs beside its tensors, in one block. */
static void *norm_memory(Norm *norm, double **totals, float **first, float **second, float **third)
{
    const size_t channels = (size_t)norm->channels, lanes = channels + STRIP;
    const int64_t least = 16 * norm->channels;
    norm->segment = (SEGMENT > least ? SEGMENT : least + BLOCK - 1) / BLOCK * BLOCK;
    const size_t segments = (size_t)segments_of(norm);
    char *memory = malloc(2 * channels * sizeof(double) + (3 + 2 * segments) * lanes * sizeof(float));
    if (memory) {
        *totals = (double *)memory;
        *first = (float *)(*totals + 2 * channels);
        *second = *first + lanes;
        *third = *second + lanes;
        norm->sums = *third + lanes;
    }
    return memory;
}

static int norm_checked(int dtype, const Norm *norm)
{
    if (PyErr_Occurred())
        return 0;
    if (dtype < 0 || dtype >= DTYPES || !norm_loops[0][dtype] || norm->channels < 1 || norm->count < norm->channels ||
        norm->count % norm->channels) {
        PyErr_SetString(PyExc_ValueError, "no fused BatchNorm for this dtype and shape");
        return 0;
    }
    return 1;
}

/* batch_norm_statistics(dtype, count, channels, x, mean, invstd, running_mean, running_var, factor, eps):
 * writes mean and invstd, moves the running statistics where there are any */
static PyObject *batch_norm_statistics(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 10)
        return PyErr_Format(PyExc_TypeError, "batch_norm_statistics takes 10 arguments, got %zd", n);
    const int dtype = (int)PyLong_AsLong(args[0]);
    Norm norm = {.count = PyLong_AsLongLong(args[1]), .channels = PyLong_AsLongLong(args[2]), .x = PyLong_AsVoidPtr(args[3])};
    float *mean = PyLong_AsVoidPtr(args[4]), *invstd = PyLong_AsVoidPtr(args[5]);
    float *running_mean = PyLong_AsVoidPtr(args[6]), *running_var = PyLong_AsVoidPtr(args[7]);
    const double factor = PyFloat_AsDouble(args[8]), eps = PyFloat_AsDouble(args[9]);
    if (!norm_checked(dtype, &norm))
        return NULL;
    double *totals;
    float *pivot, *unused;
    void *memory = norm_memory(&norm, &totals, &pivot, &unused, &unused);
    if (!memory)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    norm_pivot(&norm, dtype, pivot);
    repeat(pivot, norm.channels);
    norm.a = pivot;
    norm_run(&norm, NORM_STATISTICS, dtype, segments_of(&norm));
    norm_collect(&norm, totals);
    const double rows = (double)(norm.count / norm.channels);
    for (int64_t c = 0; c < norm.channels; c++) {
        const double shift = totals[c] / rows, m = pivot[c] + shift;
        const double square = totals[norm.channels + c] / rows - shift * shift, var = square < 0 ? 0 : square;
        mean[c] = (float)m;
        invstd[c] = (float)(1 / sqrt(var + eps));
        if (running_mean)
            running_mean[c] = (float)(running_mean[c] + factor * (m - running_mean[c]));
        if (running_var)
            running_var[c] = (float)(running_var[c] + factor * (var * rows / (rows - 1) - running_var[c]));
    }
    free(memory);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* batch_norm_forward(dtype, count, channels, x, added, out, mean, invstd, weight, bias, activation, seed, drop_prob) */
static PyObject *batch_norm_forward(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 13)
        return PyErr_Format(PyExc_TypeError, "batch_norm_forward takes 13 arguments, got %zd", n);
    const int dtype = (int)PyLong_AsLong(args[0]);
    Norm norm = {
        .count = PyLong_AsLongLong(args[1]),
        .channels = PyLong_AsLongLong(args[2]),
        .x = PyLong_AsVoidPtr(args[3]),
        .added = PyLong_AsVoidPtr(args[4]),
        .out = PyLong_AsVoidPtr(args[5]),
        .seed = PyLong_AsUnsignedLongLongMask(args[11]),
        .p = PyFloat_AsDouble(args[12]),
    };
    const float *mean = PyLong_AsVoidPtr(args[6]), *invstd = PyLong_AsVoidPtr(args[7]);
    const float *weight = PyLong_AsVoidPtr(args[8]), *bias = PyLong_AsVoidPtr(args[9]);
    const int activation = (int)PyLong_AsLong(args[10]);
    if (!norm_checked(dtype, &norm))
        return NULL;
    norm.activation = activation && norm.p == 0 ? NORM_RELU : activation ? NORM_DROP_RELU : NORM_IDENTITY;
    double *totals;
    float *a, *b, *unused;
    void *memory = norm_memory(&norm, &totals, &a, &b, &unused);
    if (!memory)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    for (int64_t c = 0; c < norm.channels; c++) {
        const double scale = (double)invstd[c] * (weight ? weight[c] : 1.0f);
        a[c] = (float)scale;
        b[c] = (float)((bias ? bias[c] : 0.0f) - mean[c] * scale);
    }
    repeat(a, norm.channels);
    repeat(b, norm.channels);
    norm.a = a, norm.b = b;
    norm_run(&norm, NORM_FORWARD, dtype, blocks_of(&norm));
    free(memory);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* batch_norm_backward(dtype, count, channels, grad, y, x, mean, invstd, weight, to_x, to_added, to_weight, to_bias):
 * y is 0 where there was no activation, to_added where nothing was added or its gradient is `grad` itself */
static PyObject *batch_norm_backward(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
    if (n != 13)
        return PyErr_Format(PyExc_TypeError, "batch_norm_backward takes 13 arguments, got %zd", n);
    const int dtype = (int)PyLong_AsLong(args[0]);
    Norm norm = {
        .count = PyLong_AsLongLong(args[1]),
        .channels = PyLong_AsLongLong(args[2]),
        .grad = PyLong_AsVoidPtr(args[3]),
        .y = PyLong_AsVoidPtr(args[4]),
        .x = PyLong_AsVoidPtr(args[5]),
        .out = PyLong_AsVoidPtr(args[9]),
        .out2 = PyLong_AsVoidPtr(args[10]),
    };
    const float *mean = PyLong_AsVoidPtr(args[6]), *invstd = PyLong_AsVoidPtr(args[7]);
    const float *weight = PyLong_AsVoidPtr(args[8]);
    float *to_weight = PyLong_AsVoidPtr(args[11]), *to_bias = PyLong_AsVoidPtr(args[12]);
    if (!norm_checked(dtype, &norm))
        return NULL;
    norm.activation = norm.y ? NORM_RELU : NORM_IDENTITY;
    double *totals;
    float *a, *b, *c;
    void *memory = norm_memory(&norm, &totals, &a, &b, &c);
    if (!memory)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    memcpy(a, mean, (size_t)norm.channels * sizeof *a);
    repeat(a, norm.channels);
    norm.a = a;
    norm_run(&norm, NORM_GATHER, dtype, segments_of(&norm));
    norm_collect(&norm, totals);
    const double rows = (double)(norm.count / norm.channels);
    for (int64_t i = 0; i < norm.channels; i++) {
        const double scale = (double)invstd[i] * (weight ? weight[i] : 1.0f), inverse = invstd[i];
        const double sum = totals[i], product = totals[norm.channels + i];
        to_bias[i] = (float)sum;
        to_weight[i] = (float)(product * inverse);
        const double slope = -scale * inverse * inverse * product / rows;
        a[i] = (float)scale;
        b[i] = (float)slope;
        c[i] = (float)(-scale * sum / rows - slope * mean[i]);
    }
    repeat(a, norm.channels);
    repeat(b, norm.channels);
    repeat(c, norm.channels);
    norm.b = b, norm.c = c;
    if (norm.activation != NORM_IDENTITY && norm.out2) { /* what came through the activation lies there already */
        norm.grad = norm.out2;
        norm.activation = NORM_IDENTITY;
    }
    norm_run(&norm, NORM_PASS, dtype, blocks_of(&norm));
    free(memory);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}
