/* The activations of the table in dropact/activations.py and their derivatives, in float32, for runs of numbers that lie in
 * the first-level cache. Included by _cpu_loops.h for each instruction set twice, under the name FN(name): WIDE, for float32,
 * within two units in its last place of the exact value; else for the 16-bit types, to 1e-5 of it and in half the time.
 *
 * Polynomials are minimax fits by Lawson's iteration. No library
 * function, so that loops are vectorised, and a fused multiply-add is asked for by name: every instruction set and compiler
 * gives the same bits. p holds an activation's settings.
 */

/* n and r of x = n log 2 + r, |r| <= log(2) / 2, of a number between -150 and 128: n to multiply with, and as an integer */
TARGET INLINE float FN(reduced)(float x, int32_t *n)
{
    const float shifted = MULTIPLY_ADD(x, LOG2_E, 0x1.8p23f), whole = shifted - 0x1.8p23f;
    *n = (int32_t)to_f32(shifted) - 0x4B400000;
    const float r = MULTIPLY_ADD(whole, -0.693145752f, x);
    return WIDE ? MULTIPLY_ADD(whole, -1.42860677e-6f, r) : r;
}
TARGET INLINE float FN(power)(int32_t n) { return from_f32((uint32_t)(n + 127) << 23); }

/* exp(r) - 1 for |r| <= log(2) / 2 */
TARGET INLINE float FN(expm1_near_zero)(float r)
{
    float q = WIDE ? 1.39504881e-3f : 0.0419212021f;
    if (WIDE) {
        q = MULTIPLY_ADD(q, r, 8.36888794e-3f);
        q = MULTIPLY_ADD(q, r, 4.16662060e-2f);
    }
    q = MULTIPLY_ADD(q, r, WIDE ? 0.166665182f : 0.167538971f);
    q = MULTIPLY_ADD(q, r, WIDE ? 0.5f : 0.49998951f);
    return MULTIPLY_ADD(q, r * r, r);
}

/* exp(x), for x up to 88; 0 below -104, or narrow below -87. In this order a NaN stays one. */
TARGET INLINE Two FN(wide_exponential)(float x)
{
    const float least = WIDE ? -104.0f : -87.0f;
    float within = x < least ? least : x;
    within = within > 88.0f ? 88.0f : within;
    int32_t n;
    const float q = FN(expm1_near_zero)(FN(reduced)(within, &n)), e = 1.0f + q;
    if (!WIDE)
        return (Two){x < least ? 0.0f : e * FN(power)(n), 0.0f};
    const float scale = FN(power)(n >> 1) * FN(power)(n - (n >> 1)); /* in two steps, as it may be subnormal */
    return (Two){e * scale, (1.0f - e + q) * scale};
}
TARGET INLINE float FN(exponential)(float x) { return FN(wide_exponential)(x).high; }

/* a + b; of |a| >= |b|; a / b by the inverse of b, and the remainder; a * b */
TARGET INLINE Two FN(sum)(float a, float b)
{
    const float s = a + b, part = s - a;
    return (Two){s, WIDE ? (a - (s - part)) + (b - part) : 0.0f};
}
TARGET INLINE Two FN(sum_of_larger)(float a, float b)
{
    const float s = a + b;
    return (Two){s, WIDE ? a - s + b : 0.0f};
}
TARGET INLINE Two FN(quotient_by)(Two a, Two b, float inverse)
{
    const float q = a.high * inverse;
    if (!WIDE)
        return (Two){q, 0.0f};
    return (Two){q, (MULTIPLY_ADD(-q, b.high, a.high) + MULTIPLY_ADD(-q, b.low, a.low)) * inverse};
}
TARGET INLINE Two FN(quotient)(Two a, Two b) { return FN(quotient_by)(a, b, 1.0f / b.high); }
TARGET INLINE Two FN(product)(Two a, Two b)
{
    const float p = a.high * b.high;
    if (!WIDE)
        return (Two){p, 0.0f};
    return (Two){p, MULTIPLY_ADD(a.high, b.high, -p) + MULTIPLY_ADD(a.high, b.low, a.low * b.high)};
}
/* x * b, rounded once; of zeros and infinities as if b were one number */
TARGET INLINE float FN(times)(float x, Two b)
{
    const float once = WIDE ? MULTIPLY_ADD(x, b.high, x * b.low) : x * b.high;
    return WIDE && x + x == x ? x * b.high : once;
}
/* x * a + b, rounded once */
TARGET INLINE float FN(times_plus)(float x, Two a, Two b)
{
    const float once = MULTIPLY_ADD(x, a.high, b.high);
    return WIDE ? once + MULTIPLY_ADD(x, a.low, b.low) : once;
}

/* exp(x) - 1, for x between -87 and 60, beyond which it is flat */
TARGET INLINE float FN(expm1)(float x)
{
    float within = x < -87.0f ? -87.0f : x;
    within = within > 60.0f ? 60.0f : within;
    int32_t n;
    const float q = FN(expm1_near_zero)(FN(reduced)(within, &n)), scale = FN(power)(n);
    return MULTIPLY_ADD(scale, q, scale - 1.0f);
}

/* log(1 + e) = e - e^2 p(e) for 0 <= e <= 1 */
TARGET INLINE float FN(log1p)(float e)
{
    float p = -0.00214043888f;
    p = MULTIPLY_ADD(p, e, 0.0139681101f);
    p = MULTIPLY_ADD(p, e, -0.0426944308f);
    p = MULTIPLY_ADD(p, e, 0.0839094296f);
    p = MULTIPLY_ADD(p, e, -0.12526162f);
    p = MULTIPLY_ADD(p, e, 0.161550894f);
    p = MULTIPLY_ADD(p, e, -0.199047372f);
    p = MULTIPLY_ADD(p, e, 0.24989602f);
    p = MULTIPLY_ADD(p, e, -0.333327651f);
    p = MULTIPLY_ADD(p, e, 0.499999881f);
    return MULTIPLY_ADD(p * e, -e, e);
}

/* sigmoid(z) where z = high + low; no intermediate overflows */
TARGET INLINE Two FN(sigmoid_of)(float high, float low)
{
    const Two e = FN(wide_exponential)(-fabsf(high));
    const float more = WIDE ? MULTIPLY_ADD(e.high, high > 0 ? -low : low, e.low) : 0.0f;
    const Two top = {high < 0 ? e.high : 1.0f, high < 0 ? more : 0.0f}, all = FN(sum_of_larger)(1.0f, e.high);
    return FN(quotient)(top, (Two){all.high, all.low + more});
}

/* The normal distribution: its density at x, and its lower tail, which for negative x is exp(-x^2 / 2) R(|x|), and
 * (1 + a) R(a) a polynomial in (a - 4) / (a + 4). The square is taken to twice the precision. */
TARGET INLINE Two FN(normal)(float x, Two *density)
{
    float a = fabsf(x);
    a = a > 15.0f ? 15.0f : a; /* there the density is 0 */
    const float square = 0.5f * a * a, rest = MULTIPLY_ADD(0.5f * a, a, -square);
    Two e = FN(wide_exponential)(-square);
    e.low = WIDE ? MULTIPLY_ADD(e.high, -rest, e.low) : 0.0f;
    const Two divisor = FN(sum)(a, 1.0f);
    const float both = 1.0f / ((a + 4.0f) * divisor.high), q = (a - 4.0f) * (both * divisor.high);
    float p = WIDE ? -7.19820746e-5f : -0.00289781252f;
    if (WIDE) {
        p = MULTIPLY_ADD(p, q, -6.15426106e-5f);
        p = MULTIPLY_ADD(p, q, 6.92214351e-4f);
        p = MULTIPLY_ADD(p, q, -3.03441222e-4f);
        p = MULTIPLY_ADD(p, q, -5.00394683e-3f);
    }
    p = MULTIPLY_ADD(p, q, WIDE ? 1.79402269e-2f : 0.018403031f);
    p = MULTIPLY_ADD(p, q, WIDE ? -3.21973488e-2f : -0.0332235582f);
    p = MULTIPLY_ADD(p, q, WIDE ? 2.85999682e-2f : 0.0283611361f);
    p = MULTIPLY_ADD(p, q, WIDE ? 1.39996009e-2f : 0.0141474009f);
    p = MULTIPLY_ADD(p, q, WIDE ? -9.67034698e-2f : -0.0966841504f);
    const float top = MULTIPLY_ADD(p, q, WIDE ? 0.4720532f : 0.472049713f);
    const float top_low = MULTIPLY_ADD(p, q, 0.4720532f - top) + 6.21539e-9f;
    const Two ratio = FN(quotient_by)((Two){top, top_low}, divisor, both * (a + 4.0f));
    const Two tail = FN(product)(e, ratio), above = FN(sum_of_larger)(1.0f, -tail.high);
    *density = FN(product)(e, (Two){0.398942292f, -1.13352e-8f});
    return (Two){x < 0 ? tail.high : above.high, x < 0 ? tail.low : above.low - tail.low};
}

/* twice the argument of gelu's tanh, sqrt(8 / pi) (x + 0.044715 x^3), and its derivative */
TARGET INLINE Two FN(gelu_argument)(float x, Two *slope)
{
    float b = x > 16.0f ? 16.0f : x;
    b = b < -16.0f ? -16.0f : b;
    const float square = b * b;
    const Two cubic = FN(product)((Two){square, MULTIPLY_ADD(b, b, -square)}, (Two){7.13548139e-2f, 2.39883e-9f});
    Two p = FN(sum)(1.59576917f, cubic.high);
    p.low += cubic.low - 4.53407e-8f;
    *slope = FN(sum)(p.high, 2.0f * cubic.high);
    slope->low += p.low + 2.0f * cubic.low;
    return FN(product)((Two){b, 0.0f}, p);
}

#define CLAMPED(x, low, high) ((x) < (low) ? (low) : (x) > (high) ? (high) : (x))

/* Each activation: its name, its value and its derivative at x. Comparisons are such that a NaN stays one where torch's
 * does, and that the derivative at a corner is torch's. */
#define VALUE(NAME) TARGET INLINE float FN(NAME)(float x, const float *p)
#define SLOPE(NAME) TARGET INLINE float FN(NAME##_slope)(float x, const float *p)

VALUE(identity) { return x; }
SLOPE(identity) { return 1.0f; }

VALUE(relu) { return x < 0 ? 0.0f : x; }
SLOPE(relu) { return x <= 0 ? 0.0f : 1.0f; }

VALUE(negative_part) { return x >= 0 ? 0.0f : x; }
SLOPE(negative_part) { return x >= 0 ? 0.0f : 1.0f; }

VALUE(leaky_relu) { return x > 0 ? x : x * p[0]; }
SLOPE(leaky_relu) { return x > 0 ? 1.0f : p[0]; }

VALUE(hardtanh) { return CLAMPED(x, p[0], p[1]); }
SLOPE(hardtanh) { return (x > p[0]) & (x < p[1]) ? 1.0f : 0.0f; }

/* p: scale below zero, scale above, scale of the input */
VALUE(elu)
{
    const float z = x * p[2], low = WIDE && x > -1e30f ? MULTIPLY_ADD(x, p[2], -z) : 0.0f, e = FN(expm1)(z);
    const float below = p[0] * MULTIPLY_ADD(e + 1.0f, low, e), above = p[1] * x;
    return x > 0 ? above : x < 0 ? below : x * p[0]; /* of -0 and a NaN itself */
}
SLOPE(elu)
{
    const float z = x * p[2], low = WIDE && x > -1e30f ? MULTIPLY_ADD(x, p[2], -z) : 0.0f, e = FN(exponential)(z);
    return x <= 0 ? p[0] * p[2] * MULTIPLY_ADD(e, low, e) : p[1];
}

VALUE(gelu)
{
    Two density;
    return FN(times)(x, FN(normal)(x, &density));
}
SLOPE(gelu)
{
    Two density;
    const Two below = FN(normal)(x, &density);
    return FN(times_plus)(x, density, below);
}

VALUE(gelu_tanh)
{
    Two slope;
    const Two z = FN(gelu_argument)(x, &slope);
    return FN(times)(x, FN(sigmoid_of)(z.high, z.low));
}
SLOPE(gelu_tanh)
{
    Two slope;
    const Two z = FN(gelu_argument)(x, &slope);
    const Two s = FN(sigmoid_of)(z.high, z.low), rest = FN(sigmoid_of)(-z.high, -z.low);
    return FN(times_plus)(x, FN(product)(slope, FN(product)(s, rest)), s);
}

VALUE(silu) { return FN(times)(x, FN(sigmoid_of)(x, 0.0f)); }
SLOPE(silu)
{
    const Two s = FN(sigmoid_of)(x, 0.0f), rest = FN(sigmoid_of)(-x, 0.0f);
    return FN(times_plus)(x, FN(product)(s, rest), s);
}

VALUE(silu_below_zero)
{
    const float below = FN(silu)(x, p);
    return x < 0 ? below : x;
}
SLOPE(silu_below_zero)
{
    const float below = FN(silu_slope)(x, p);
    return x < 0 ? below : 1.0f;
}

/* tanh(log(1 + e^x)) = n / (n + 2), n = e (e + 2), and e */
TARGET INLINE Two FN(mish_factor)(float x, Two *e, Two *sum)
{
    *e = FN(wide_exponential)(x > 20.0f ? 20.0f : x);
    const float n = MULTIPLY_ADD(e->high, e->high, 2.0f * e->high);
    const float low = MULTIPLY_ADD(e->high, e->high, 2.0f * e->high - n) + 2.0f * MULTIPLY_ADD(e->high, e->low, e->low);
    *sum = FN(sum)(n, 2.0f);
    sum->low += low;
    return FN(quotient)((Two){n, low}, *sum);
}
VALUE(mish)
{
    Two e, sum;
    return FN(times)(x, FN(mish_factor)(x, &e, &sum));
}
SLOPE(mish)
{
    Two e, sum;
    const Two t = FN(mish_factor)(x, &e, &sum);
    Two more = FN(sum)(e.high, 1.0f);
    more.low += e.low;
    const Two rest = FN(product)(FN(quotient)((Two){4.0f * e.high, 4.0f * e.low}, sum), FN(quotient)(more, sum));
    return x > 20.0f ? 1.0f : FN(times_plus)(x, rest, t);
}

VALUE(sigmoid)
{
    const Two s = FN(sigmoid_of)(x, 0.0f);
    return s.high + s.low;
}
SLOPE(sigmoid)
{
    const Two s = FN(sigmoid_of)(x, 0.0f), rest = FN(sigmoid_of)(-x, 0.0f);
    const Two both = FN(product)(s, rest);
    return both.high + both.low;
}

VALUE(tanh)
{
    const float a = fabsf(x), w = a * a, t = 1.0f - 2.0f / (1.0f + FN(exponential)(2.0f * (a > 10.0f ? 10.0f : a)));
    float q = -0.00560840918f;
    q = MULTIPLY_ADD(q, w, 0.0205564797f);
    q = MULTIPLY_ADD(q, w, -0.053715881f);
    q = MULTIPLY_ADD(q, w, 0.133311793f);
    q = MULTIPLY_ADD(q, w, -0.333332747f);
    const float small = MULTIPLY_ADD(q * w, x, x);
    return (a < 0.6f) & (a > 0) ? small : x < 0 ? -t : x > 0 ? t : x;
}
SLOPE(tanh)
{
    return 4.0f * FN(sigmoid_slope)(2.0f * x, p);
}

/* p: beta, threshold */
VALUE(softplus)
{
    const float z = x * p[0], near = (z > 0 ? z : 0.0f) + FN(log1p)(FN(exponential)(-fabsf(z)));
    return z > p[1] ? x : near / p[0];
}
SLOPE(softplus)
{
    const float z = x * p[0], near = FN(sigmoid)(z, p);
    return z > p[1] ? 1.0f : near;
}

VALUE(logsigmoid) { return (x < 0 ? x : 0.0f) - FN(log1p)(FN(exponential)(-fabsf(x))); }
SLOPE(logsigmoid) { return FN(sigmoid)(-x, p); }

VALUE(softsign) { return x / (1.0f + fabsf(x)); }
SLOPE(softsign)
{
    const float a = fabsf(x);
    const Two r = FN(quotient)((Two){1.0f, 0.0f}, FN(sum)(1.0f, a)), slope = FN(product)(r, r);
    return a < 1e18f ? slope.high + slope.low : r.high * r.high;
}

VALUE(hardswish)
{
    const Two sum = FN(sum)(x, 3.0f), clamped = {CLAMPED(sum.high, 0.0f, 6.0f), fabsf(x) < 3.0f ? sum.low : 0.0f};
    return FN(times)(x, FN(quotient)(clamped, (Two){6.0f, 0.0f}));
}
SLOPE(hardswish) { return x <= -3.0f ? 0.0f : x < 3.0f ? MULTIPLY_ADD(x, 0.333333343f, 0.5f) : 1.0f; }

VALUE(hardsigmoid) { return CLAMPED(x + 3.0f, 0.0f, 6.0f) / 6.0f; }
SLOPE(hardsigmoid) { return (x > -3.0f) & (x < 3.0f) ? 0.166666672f : 0.0f; }

/* Accelerated slopes, at most p[2]: that of ReLU with sigmoid(a (x - b)) added, those of tanh and sigmoid with
 * b exp(-(x / a)^2); p: a, b, cap. No values of their own. */
VALUE(accelerated_relu) { return FN(relu)(x, p); }
SLOPE(accelerated_relu)
{
    const float slope = FN(relu_slope)(x, p) + FN(sigmoid)(p[0] * (x - p[1]), p);
    return slope > p[2] ? p[2] : slope;
}
VALUE(accelerated_tanh) { return FN(tanh)(x, p); }
SLOPE(accelerated_tanh)
{
    const float u = x / p[0], slope = MULTIPLY_ADD(p[1], FN(exponential)(-(u * u)), FN(tanh_slope)(x, p));
    return slope > p[2] ? p[2] : slope;
}
VALUE(accelerated_sigmoid) { return FN(sigmoid)(x, p); }
SLOPE(accelerated_sigmoid)
{
    const float u = x / p[0], slope = MULTIPLY_ADD(p[1], FN(exponential)(-(u * u)), FN(sigmoid_slope)(x, p));
    return slope > p[2] ? p[2] : slope;
}

#define IN_PLACE(NAME, OF) \
    TARGET static void FN(NAME##_run)(float *v, int32_t len, const float *settings) \
    { \
        const float p[3] = {settings[0], settings[1], settings[2]}; \
        _Pragma("GCC ivdep") for (int32_t j = 0; j < len; j++) v[j] = FN(OF)(v[j], p); \
    }
#define ACTIVATION(NAME) \
    IN_PLACE(NAME, NAME) \
    IN_PLACE(NAME##_slope, NAME##_slope)
EACH_ACTIVATION(ACTIVATION)
#undef ACTIVATION
#define ACTIVATION(NAME) {FN(NAME##_run), FN(NAME##_slope_run)},
static const Run FN(ACTIVATIONS)[][2] = {EACH_ACTIVATION(ACTIVATION)};
#undef ACTIVATION
#undef IN_PLACE
#undef VALUE
#undef SLOPE
#undef CLAMPED

