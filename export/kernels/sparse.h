/* output[r] = max(lowest, biases[r] + sum of values * input[columns]) for CSR rows that hold counts[r]
 * weights. The switch jumps into the unrolled loop, so a short row pays for its weights and nothing else. */
POLICY_KERNEL void policy_sparse(const float *values, const COLUMN_TYPE *columns, const COUNT_TYPE *counts,
                                 const float *biases, const float *input, float *output, uint32_t rows,
                                 float lowest) {
    const float *const end = output + rows;
    do {
        float sum = *biases++;
        uint32_t left = *counts++;
        switch (left & 7u) {
            for (;;) {
                sum += *values++ * input[*columns++]; /* fall through */
            case 7:
                sum += *values++ * input[*columns++]; /* fall through */
            case 6:
                sum += *values++ * input[*columns++]; /* fall through */
            case 5:
                sum += *values++ * input[*columns++]; /* fall through */
            case 4:
                sum += *values++ * input[*columns++]; /* fall through */
            case 3:
                sum += *values++ * input[*columns++]; /* fall through */
            case 2:
                sum += *values++ * input[*columns++]; /* fall through */
            case 1:
                sum += *values++ * input[*columns++]; /* fall through */
            default:
                if (left < 8u) {
                    break;
                }
                left -= 8u;
            }
        }
        /* Written so that NaN passes. */
        *output++ = sum < lowest ? lowest : sum;
    } while (output != end);
}
