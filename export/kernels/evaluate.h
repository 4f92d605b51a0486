/* Computes the action for a stacked observation, oldest frame first; both in physical units. */
static inline void policy_evaluate(const float observation[POLICY_OBSERVATION_SIZE], float action[]) {
    float centred[POLICY_OBSERVATION_SIZE];
    uint32_t i = 0u;
    for (uint32_t n = 0; n < POLICY_OBSERVATION_SIZE; ++n) {
        centred[n] = POLICY_CENTRED(observation[n], i);
        i = i + 1u < (uint32_t)POLICY_BASE_OBSERVATION_SIZE ? i + 1u : 0u;
    }
    policy_network(centred, action);
}
