/* The nRF51's generator, a byte at a time; should it not answer, the moment at which a host asks. */
#include "random.h"
#include "registers.h"
#include "stopwatch.h"

#define PATIENCE  20000u /* polls: a byte takes 0.7 ms with bias correction */
#define CORRECTED 1u

static uint32_t state;

void random_start(void) {
    NRF51_RNG->CONFIG = CORRECTED;
    NRF51_RNG->START = 1u;
}

uint32_t random_number(void) {
    state = (state ^ stopwatch_us()) * 2654435761u + 1u;
    for (unsigned shift = 0; shift < 32u; shift += 8u) {
        uint32_t polls = 0;
        while (NRF51_RNG->VALRDY == 0u && polls < PATIENCE) {
            polls++;
        }
        NRF51_RNG->VALRDY = 0u;
        state ^= NRF51_RNG->VALUE << shift;
    }
    return state;
}
