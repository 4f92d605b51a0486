/* Compares the known answers with what this machine computes: 0, or 1 + the index of the first that differs
 * by more than policy_self_test_tolerance. The answers take no flash unless this function is called. */
static inline int policy_self_test(void) {
    for (uint32_t k = 0; k < POLICY_KNOWN_ANSWERS; ++k) {
        float action[POLICY_ACTION_SIZE];
        policy_evaluate(&policy_known_observations[k * POLICY_OBSERVATION_SIZE], action);
        for (uint32_t i = 0; i < POLICY_ACTION_SIZE; ++i) {
            const float difference = action[i] - policy_known_actions[k * POLICY_ACTION_SIZE + i];
            const float tolerance = policy_self_test_tolerance[i];
            /* Negated so that NaN fails. */
            if (!(difference <= tolerance && difference >= -tolerance)) {
                return 1 + (int)k;
            }
        }
    }
    return 0;
}
