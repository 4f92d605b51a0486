/* The decoder looks at both channels every 128 us. One transition a look is counted; of two it cannot know
 * the direction, and says so: 7800 counts a second are the most, 12 rad/s with 4096 counts a turn.
 */
#include "encoder.h"
#include "pin.h"

#define ENABLED      1u
#define DISCONNECTED 0xFFFFFFFFu

void encoder_start(encoder_t *encoder, const encoder_place_t *place) {
    encoder->count = 0;
    encoder->lost = false;
    for (unsigned i = 0; i < 2u; i++) {
        pin_mode(place->pins[i], GPIO_INPUT_PULL_UP); /* open collectors, and a cable that is off */
    }
    NRF51_QDEC->PSELLED = DISCONNECTED;
    NRF51_QDEC->PSELA = place->pins[0];
    NRF51_QDEC->PSELB = place->pins[1];
    NRF51_QDEC->SAMPLEPER = 0u; /* 128 us, the shortest */
    NRF51_QDEC->DBFEN = 0u;     /* its filter would look twice as seldom */
    NRF51_QDEC->ENABLE = ENABLED;
    NRF51_QDEC->START = 1u;
}

int32_t encoder_read(encoder_t *encoder) {
    NRF51_QDEC->READCLRACC = 1u; /* both at once */
    const uint32_t moved = NRF51_QDEC->ACCREAD;
    encoder->lost = encoder->lost || NRF51_QDEC->ACCDBLREAD != 0u;
    encoder->count = (int32_t)((uint32_t)encoder->count + moved);
    return encoder->count;
}

bool encoder_lost(encoder_t *encoder) {
    const bool lost = encoder->lost;
    encoder->lost = false;
    return lost;
}
