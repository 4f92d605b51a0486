/* Whether an observation is NaN, infinite, or so large that a sum might overflow: 1 or 0. */
static inline uint32_t policy_is_broken(float x) {
    union {
        float number;
        uint32_t bits;
    } value;
    value.number = x;
    return (value.bits & 0x7fffffffu) > POLICY_LARGEST_BITS ? 1u : 0u;
}
