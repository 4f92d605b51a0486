/* x * 2^exponent towards 0; nothing rounds before that. Sets broken where x is NaN, infinite or so far out
 * that the result would not fit 30 bits. */
static inline int32_t policy_reading(float x, int32_t exponent, uint32_t *broken) {
    union {
        float number;
        int32_t bits;
    } value;
    value.bits = (127 + exponent) * 0x800000;
    value.number = x * value.number;
    if ((value.bits & 0x7fffffff) >= 0x4e800000) {
        *broken = 1u;
        return 0;
    }
    return (int32_t)value.number;
}
