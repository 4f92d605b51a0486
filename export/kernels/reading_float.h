/* x * 2^exponent towards 0; nothing rounds before that. Sets broken where x is NaN, infinite or so far out
 * that the result would not fit 30 bits; without a branch. */
static inline int32_t policy_reading(float x, int32_t exponent, uint32_t *broken) {
    union {
        float number;
        int32_t bits;
    } value;
    value.bits = (127 + exponent) * 0x800000;
    value.number = x * value.number;
    const int32_t room = 0x4e7fffff - (value.bits & 0x7fffffff);
    *broken |= (uint32_t)room >> 31;
    value.bits &= ~(room >> 31);
    return (int32_t)value.number;
}
