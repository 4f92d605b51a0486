/* tanh in integers: 12 fraction bits in, 15 out; a cubic on each half unit, flat beyond 5. Neither a division
 * nor a branch: the same instructions for every x. Absolute error at most 1.6e-4. */
POLICY_KERNEL int32_t policy_tanh(int32_t x) {
    const int32_t sign = x >> 31;
    const int32_t beyond = ((x ^ sign) - sign) - 20479;
    const int32_t size = 20479 + (beyond & (beyond >> 31));
    const TABLE_POINTER c = &policy_tanh_cubics[4 * (size >> 11)];
    const int32_t f = size & 2047;
    int32_t y = READ_3;
    y = ((y * f) >> 11) + READ_2;
    y = ((y * f) >> 11) + READ_1;
    y = ((y * f) >> 11) + READ_0;
    return (y ^ sign) - sign;
}
