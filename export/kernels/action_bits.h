/* (float)value * 2^-exponent, rounded to the nearest as a floating-point unit does, from the bits. */
static inline float policy_to_float(int32_t value, int32_t exponent) {
    union {
        float number;
        uint32_t bits;
    } result;
    uint32_t size = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    uint32_t power = (uint32_t)(158 - exponent);
    result.bits = 0u;
    if (size != 0u) {
        while (size < 0x80000000u) {
            size <<= 1;
            --power;
        }
        /* Half of the last place and ties to even; a carry moves into the exponent, as it should. */
        const uint32_t rest = size & 0xffu;
        result.bits = (value < 0 ? 0x80000000u : 0u) | ((power << 23) + ((size >> 8) & 0x7fffffu));
        result.bits += rest > 0x80u || (rest == 0x80u && (size & 0x100u) != 0u) ? 1u : 0u;
    }
    return result.number;
}
