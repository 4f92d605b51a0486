/* The independent watchdog runs on its own oscillator of 17 to 47 kHz. */
#include "watchdog.h"
#include "registers.h"

#define DIVIDE_BY_16 2u
#define RELOAD       200u /* 100 ms at 32 kHz: 68 to 188 ms */

void watchdog_start(void) {
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_START;
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_WRITE;
    STM32F4_WATCHDOG->PR = DIVIDE_BY_16;
    STM32F4_WATCHDOG->RLR = RELOAD;
    watchdog_feed();
}

void watchdog_feed(void) {
    STM32F4_WATCHDOG->KR = WATCHDOG_KEY_RELOAD;
}
