typedef struct {
    const float *weights;
    const float *biases;
    uint32_t rows;
    uint32_t columns;
    float lowest;
} policy_dense_layer_t;

/* output[r] = max(lowest, biases[r] + weights[r] . input), two columns of eight rows at a time: every input
 * is loaded once for eight weights. weights: for each block of eight rows column by column, then the rows
 * left over. */
POLICY_KERNEL void policy_dense(const policy_dense_layer_t *layer, const float *input, float *output) {
    const float *weights = layer->weights;
    const float *biases = layer->biases;
    const float lowest = layer->lowest;
    uint32_t rows = layer->rows;
    const float *const input_end = input + layer->columns;
    const float *const pairs_end = input + (layer->columns & ~1u);
    float sums[8];
    for (; rows >= 8u; rows -= 8u) {
        const float *x = input;
        float s0 = biases[0], s1 = biases[1], s2 = biases[2], s3 = biases[3];
        float s4 = biases[4], s5 = biases[5], s6 = biases[6], s7 = biases[7];
        while (x != pairs_end) {
            const float x0 = x[0], x1 = x[1];
            s0 += weights[0] * x0;
            s1 += weights[1] * x0;
            s2 += weights[2] * x0;
            s3 += weights[3] * x0;
            s4 += weights[4] * x0;
            s5 += weights[5] * x0;
            s6 += weights[6] * x0;
            s7 += weights[7] * x0;
            s0 += weights[8] * x1;
            s1 += weights[9] * x1;
            s2 += weights[10] * x1;
            s3 += weights[11] * x1;
            s4 += weights[12] * x1;
            s5 += weights[13] * x1;
            s6 += weights[14] * x1;
            s7 += weights[15] * x1;
            x += 2;
            weights += 16;
        }
        if (x != input_end) {
            const float x0 = x[0];
            s0 += weights[0] * x0;
            s1 += weights[1] * x0;
            s2 += weights[2] * x0;
            s3 += weights[3] * x0;
            s4 += weights[4] * x0;
            s5 += weights[5] * x0;
            s6 += weights[6] * x0;
            s7 += weights[7] * x0;
            weights += 8;
        }
        sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
        sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
        for (uint32_t row = 0; row < 8u; ++row) {
            output[row] = sums[row] < lowest ? lowest : sums[row];
        }
        biases += 8;
        output += 8;
    }
    for (; rows > 0u; --rows) {
        const float *x = input;
        float sum = *biases++;
        for (; x != pairs_end; x += 2, weights += 2) {
            sum += weights[0] * x[0];
            sum += weights[1] * x[1];
        }
        if (x != input_end) {
            sum += *weights++ * x[0];
        }
        *output++ = sum < lowest ? lowest : sum;
    }
}
