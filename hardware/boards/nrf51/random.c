/* The nRF51's generator, mixed with the moments at which a host asks. */
#include "random.h"
#include "registers.h"
#include "stopwatch.h"

#include <stdbool.h>

#define PATIENCE  20000u /* polls: a byte takes 0.7 ms with bias correction */
#define CORRECTED 1u

static uint32_t state;

static bool ready(void) {
    return NRF51_RNG->VALRDY != 0u;
}

static uint32_t take(void) {
    NRF51_RNG->VALRDY = 0u; /* it starts the next one by itself */
    return NRF51_RNG->VALUE;
}

void random_start(void) {
    NRF51_RNG->CONFIG = CORRECTED;
    NRF51_RNG->START = 1u;
    for (unsigned shift = 0; shift < 32u; shift += 8u) {
        for (uint32_t polls = 0; !ready() && polls < PATIENCE; polls++) {
        }
        state ^= take() << shift;
    }
}

/* Waits for nothing: many requests in a row must not hold a period up. */
uint32_t random_number(void) {
    state ^= stopwatch_us();
    if (ready()) {
        state ^= take();
    }
    state = state * 2654435761u + 1u;
    return state;
}
