/* The nRF51 has no SysTick; TIMER0 counts microseconds in 32 bits. */
#include "stopwatch.h"
#include "registers.h"

void stopwatch_start(void) {
    NRF51_TIMER0->MODE = 0u;
    NRF51_TIMER0->BITMODE = 3u;   /* 32 bits */
    NRF51_TIMER0->PRESCALER = 4u; /* 16 MHz / 2^4 */
    NRF51_TIMER0->CLEAR = 1u;
    NRF51_TIMER0->START = 1u;
}

uint32_t stopwatch_us(void) {
    NRF51_TIMER0->CAPTURE[0] = 1u;
    return NRF51_TIMER0->CC[0];
}
