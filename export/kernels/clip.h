/* x within [low, high]: a comparison becomes a mask, because some processors could only branch on it. */
static inline float policy_clipped(float x, float low, float high) {
    union {
        float number;
        uint32_t bits;
    } value, limit;
    value.number = x;
    limit.number = low;
    value.bits ^= (value.bits ^ limit.bits) & (0u - (uint32_t)(x < low));
    limit.number = high;
    value.bits ^= (value.bits ^ limit.bits) & (0u - (uint32_t)(x > high));
    return value.number;
}
