/* tanh as a quotient of two polynomials of degree 4 in x * x (minimax); absolute error at most 4e-7, never
 * outside
 * [-1, 1], NaN gives NaN. The same bits on every machine with IEEE single precision, unlike a C library's
 * tanhf. */
POLICY_KERNEL float policy_tanh(float x) {
    if (x >= 8.3f) {
        return 1.0f;
    }
    if (x <= -8.3f) {
        return -1.0f;
    }
    const float t = x * x;
    const float p =
        (((1.60907874e-08f * t + 2.25396816e-05f) * t + 0.00361156301f) * t + 0.134783551f) * t + 1.0f;
    const float q =
        (((8.8822901e-07f * t + 0.000347615161f) * t + 0.026317142f) * t + 0.468116969f) * t + 1.0f;
    const float y = x * p / q;
    return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
}
