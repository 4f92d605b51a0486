/* Entry points for verify, measure and the bridge: the same file is built for this machine and for every
 * emulated core. Results have 32 bits everywhere, whatever an int has; arguments fit one register of a call.
 */
#include "policy.h"

void run_batch(const float *observations, float *actions, unsigned count);
void run_batch(const float *observations, float *actions, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
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

/* Resets, then pushes every frame of a stacked observation but the newest, which is left to run_step. */
void run_frames(policy_state_t *state, const float *observation);
void run_frames(policy_state_t *state, const float *observation) {
    policy_reset(state);
    for (uint32_t i = 1; i < POLICY_HISTORY; ++i) {
        policy_observe(state, observation);
        observation += POLICY_BASE_OBSERVATION_SIZE;
    }
}

void run_step(policy_state_t *state, const float *base_observation, float *action);
void run_step(policy_state_t *state, const float *base_observation, float *action) {
    policy_step(state, base_observation, action);
}

#ifdef POLICY_FIXED
uint32_t run_step_fixed(policy_state_t *state, const int32_t *reading, int32_t *output);
uint32_t run_step_fixed(policy_state_t *state, const int32_t *reading, int32_t *output) {
    return policy_step_fixed(state, reading, output);
}
#endif

int32_t run_self_test(void);
int32_t run_self_test(void) {
    return policy_self_test();
}
