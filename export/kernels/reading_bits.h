/* x * 2^exponent towards 0, from the bits of x: a processor without a floating-point unit needs no library
 * for it. Sets broken where x is NaN, infinite or so far out that the result would not fit 30 bits. */
static inline int32_t policy_reading(float x, int32_t exponent, uint32_t *broken) {
    union {
        float number;
        uint32_t bits;
    } value;
    value.number = x;
    const uint32_t power = (value.bits >> 23) & 0xffu;
    const int32_t right = 150 - exponent - (int32_t)power;
    uint32_t size = (value.bits & 0x7fffffu) | 0x800000u;
    if (right >= 24) {
        size = 0u;
    } else if (right >= 0) {
        size >>= right;
    } else {
        size <<= -right & 7;
    }
    if (right < -6 || power == 255u) {
        *broken = 1u;
        return 0;
    }
    return (value.bits >> 31) != 0u ? -(int32_t)size : (int32_t)size;
}
