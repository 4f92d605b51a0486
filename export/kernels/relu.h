/* max(x, 0) without a branch and without the flags of the floating-point unit: negative numbers become +0. A
 * NaN may become 0: policy_output replaces what comes of it. */
static inline float policy_relu(float x) {
    union {
        float number;
        int32_t bits;
    } value;
    value.number = x;
    value.bits &= ~(value.bits >> 31);
    return value.number;
}
