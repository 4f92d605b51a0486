/* The smallest firmware: one control step. Linked with and without the policy; the difference is its flash.
 */
#include <stdint.h>

#ifdef WITH_POLICY
#include "policy.h"
policy_state_t state;
float base_observation[POLICY_BASE_OBSERVATION_SIZE];
float action[POLICY_ACTION_SIZE];
#endif

void reset_handler(void);
void reset_handler(void) {
#ifdef WITH_POLICY
    policy_step(&state, base_observation, action);
#ifdef WITH_SELF_TEST
    action[0] = (float)policy_self_test();
#endif
#endif
}

/* Outside the policy's function so that its size can be told from the code around it. */
void (*const vectors[2])(void) __attribute__((section(".vectors"), used)) = {0, reset_handler};
