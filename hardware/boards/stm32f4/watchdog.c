/* The independent watchdog runs on its own oscillator of 17 to 47 kHz (data sheets of F401 and F405: LSI). */
#include "watchdog.h"
#include "registers.h"

#define DIVIDE_BY_16 2u
#define DIVIDER      16u
#define FASTEST_KHZ  47u
#define LONGEST      0xFFFu /* 1394 ms of the fastest */
#define PATIENCE     1000000u

void watchdog_start(uint32_t at_least_ms) {
    const uint32_t reload = (at_least_ms * FASTEST_KHZ + DIVIDER - 1u) / DIVIDER;
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_START;
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_WRITE;
    STM32F4_WATCHDOG->PR = DIVIDE_BY_16;
    STM32F4_WATCHDOG->RLR = reload < LONGEST ? reload : LONGEST;
    /* Both take some of its own slow clocks to arrive; fed before, it would start from its longest time. */
    for (uint32_t polls = 0; polls < PATIENCE && STM32F4_WATCHDOG->SR != 0u; polls++) {
    }
    watchdog_feed();
}

void watchdog_feed(void) {
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_RELOAD;
}
