/* The firmware and the harness of a peer: the counterparts of export/targets/firmware.c and
 * harness.c. peer.h defines peer_evaluate. Linked with and without it, the difference is its cost. */
#include <stdint.h>

#ifdef WITH_PEER
#include "peer.h"
#endif

#ifdef HARNESS
void run_stacked(const float *observation, float *action);
void run_stacked(const float *observation, float *action) {
    peer_evaluate(observation, action);
}

void run_batch(const float *observations, float *actions, uint32_t count);
void run_batch(const float *observations, float *actions, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) {
        peer_evaluate(observations, actions);
        observations += OBSERVATION_SIZE;
        actions += 1;
    }
}
#else
#ifdef WITH_PEER
float observation[OBSERVATION_SIZE];
float action[1];
#endif

void reset_handler(void);
void reset_handler(void) {
#ifdef WITH_PEER
    peer_evaluate(observation, action);
#endif
}

void (*const vectors[2])(void) __attribute__((section(".vectors"), used)) = {0, reset_handler};
#endif
