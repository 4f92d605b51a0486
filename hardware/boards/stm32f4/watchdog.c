/* The independent watchdog runs on its own oscillator of 17 to 47 kHz. */
#include "watchdog.h"
#include "registers.h"

#define DIVIDE_BY_16 2u
#define PATIENCE     1000000u
#define RELOAD       200u /* 100 ms at 32 kHz: 68 to 188 ms */

void watchdog_start(void) {
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_START;
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_WRITE;
    STM32F4_WATCHDOG->PR = DIVIDE_BY_16;
    STM32F4_WATCHDOG->RLR = RELOAD;
    /* Both take some of its own slow clocks to arrive; fed before, it would start from its longest time. */
    for (uint32_t polls = 0; polls < PATIENCE && STM32F4_WATCHDOG->SR != 0u; polls++) {
    }
    watchdog_feed();
}

void watchdog_feed(void) {
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_RELOAD;
}
