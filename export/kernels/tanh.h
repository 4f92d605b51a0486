/* tanh as a quotient of two polynomials of degree 4 in x * x (minimax); absolute error at most 4e-7, never
 * outside [-1, 1]. The same bits on every machine with IEEE single precision, unlike a C library's tanhf. The
 * limits are tested on the bits of |x|, which order as integers do: the same instructions for every x. */
POLICY_KERNEL float policy_tanh(float x) {
    union {
        float number;
        int32_t bits;
    } value, size;
    value.number = x;
    size.bits = value.bits & 0x7fffffff;
    const int32_t beyond = size.bits - 0x4104cccd; /* 8.3f */
    size.bits = 0x4104cccd + (beyond & (beyond >> 31));
    const float t = size.number * size.number;
    const float p =
        (((1.60907874e-08f * t + 2.25396816e-05f) * t + 0.00361156301f) * t + 0.134783551f) * t + 1.0f;
    const float q =
        (((8.8822901e-07f * t + 0.000347615161f) * t + 0.026317142f) * t + 0.468116969f) * t + 1.0f;
    size.number = size.number * p / q;
    const int32_t above = size.bits - 0x3f800000; /* 1.0f */
    size.bits = (0x3f800000 + (above & (above >> 31))) | (value.bits & (-0x7fffffff - 1));
    return size.number;
}
