/* Entry points for verify, measure and the bridge: the same file is built for this machine and for the
 * emulated core. */
#include "policy.h"

void run_batch(const float *observations, float *actions, uint32_t count);
void run_batch(const float *observations, float *actions, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        policy_evaluate(observations, actions);
        observations += POLICY_OBSERVATION_SIZE;
        actions += POLICY_ACTION_SIZE;
    }
}

uint32_t run_state_size(void);
uint32_t run_state_size(void) {
    return (uint32_t)sizeof(policy_state_t);
}

uint32_t run_base_size(void);
uint32_t run_base_size(void) {
    return POLICY_BASE_OBSERVATION_SIZE;
}

void run_reset(policy_state_t *state);
void run_reset(policy_state_t *state) {
    policy_reset(state);
}

void run_observe(policy_state_t *state, const float *base_observation);
void run_observe(policy_state_t *state, const float *base_observation) {
    policy_observe(state, base_observation);
}

void run_step(policy_state_t *state, const float *base_observation, float *action);
void run_step(policy_state_t *state, const float *base_observation, float *action) {
    policy_step(state, base_observation, action);
}

int run_self_test(void);
int run_self_test(void) {
    return policy_self_test();
}

float run_tanh(float x);
float run_tanh(float x) {
    return policy_tanh(x);
}
