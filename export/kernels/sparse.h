typedef struct {
    const float *values;
    const COLUMN_TYPE *columns;
    const COUNT_TYPE *counts;
    const float *biases;
    uint32_t rows;
    float lowest;
} policy_sparse_layer_t;

/* output[r] = max(lowest, sum of values * input[columns] + biases[r]) for CSR rows that hold counts[r]
 * weights, at least one. The switch jumps into the unrolled loop: a short row pays for its weights and
 * nothing else. */
POLICY_KERNEL void policy_sparse(const policy_sparse_layer_t *layer, const float *input, float *output) {
    const float *values = layer->values;
    const COLUMN_TYPE *columns = layer->columns;
    const COUNT_TYPE *counts = layer->counts;
    const float *biases = layer->biases;
    const float *const biases_end = biases + layer->rows;
    const float lowest = layer->lowest;
    do {
        float sum = 0.0f;
        uint32_t left = *counts++;
        switch (left & 7u) {
            do {
                left -= 8u;
                /* fall through */
            case 0:
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
                sum += *values++ * input[*columns++];
            } while (left > 8u);
        }
        /* The bias last: folded normalisers make it large, and the sum rounds at its own size until then. */
        sum += *biases++;
        /* Written so that NaN passes. */
        *output++ = sum < lowest ? lowest : sum;
    } while (biases != biases_end);
}
