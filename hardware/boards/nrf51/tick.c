/* The second comparison of timer 0, whose microseconds are the stopwatch's. */
#include "tick.h"
#include "cortex_m.h"
#include "registers.h"

#define HALF               0x80000000u
#define MILLISECOND        1000u
#define COMPARE1_INTERRUPT (1u << 17)

void tick_start(void) {
    NRF51_TIMER0->CAPTURE[1] = 1u;
    NRF51_TIMER0->CC[1] += MILLISECOND;
    NRF51_TIMER0->COMPARE[1] = 0u;
    NRF51_TIMER0->INTENSET = COMPARE1_INTERRUPT;
    interrupt_allow(NRF51_INTERRUPT_TIMER0);
}

void tick_interrupt(void) {
    NRF51_TIMER0->COMPARE[1] = 0u;
    do { /* once for every millisecond that has passed: a comparison with the past comes after 71 minutes */
        NRF51_TIMER0->CC[1] += MILLISECOND;
        tick_millisecond();
        NRF51_TIMER0->CAPTURE[2] = 1u;
    } while (NRF51_TIMER0->CC[2] - NRF51_TIMER0->CC[1] < HALF);
}
