/* A policy for hostile tests of the firmware: the interface of the header that export writes, a linear rule,
 * not a number where the rod spins fast, and a self-test whose result the test chooses. */
#ifndef POLICY_H
#define POLICY_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#define POLICY_FORMAT                1
#define POLICY_BASE_OBSERVATION_SIZE 5
#define POLICY_HISTORY               1
#define POLICY_ACTION_SIZE           1
#define POLICY_PERIOD_US             20000
#define POLICY_NOT_A_NUMBER_FROM     25.0f /* rad/s: below what the safety machine stops by itself */

static const uint8_t policy_digest[32] = {0x5A};

extern int policy_self_test_result; /* 0: passed */

typedef struct {
    float newest[POLICY_BASE_OBSERVATION_SIZE];
} policy_state_t;

static inline void policy_reset(policy_state_t *state) {
    memset(state, 0, sizeof *state);
}

static inline void policy_step(policy_state_t *state, const float base[], float action[]) {
    memcpy(state->newest, base, sizeof state->newest);
    action[0] = base[4] > POLICY_NOT_A_NUMBER_FROM ? NAN : 30.0f * base[4] - 12.0f * base[0];
}

static inline int policy_self_test(void) {
    return policy_self_test_result;
}

#endif
