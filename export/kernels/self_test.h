/* Compares the known answers with what this machine computes: 0, or 1 + the index of the first that differs
 * by more than policy_self_test_tolerance. The answers take no flash unless this function is called. */
static inline int policy_self_test(void) {
    for (uint_fast16_t k = 0; k < POLICY_KNOWN_ANSWERS; ++k) {
        float observation[POLICY_OBSERVATION_SIZE];
        float action[POLICY_ACTION_SIZE];
        for (uint_fast16_t i = 0; i < POLICY_OBSERVATION_SIZE; ++i) {
            observation[i] = READ_OBSERVATION;
        }
        policy_evaluate(observation, action);
        for (uint_fast16_t i = 0; i < POLICY_ACTION_SIZE; ++i) {
            const float difference = action[i] - READ_ANSWER;
            const float tolerance = READ_TOLERANCE;
            /* Negated so that NaN fails. */
            if (!(difference <= tolerance && difference >= -tolerance)) {
                return 1 + (int)k;
            }
        }
    }
    return 0;
}
