/* The watchdog runs on the low-frequency clock, of 32768 Hz, from the internal oscillator (2 %). */
#include "watchdog.h"
#include "registers.h"

#define FASTEST_HZ   33424u /* 2 % above */
#define RELOAD_KEY   0x6E524635u
#define RUN_IN_SLEEP 1u
#define LFCLK_RC     0u

void watchdog_start(uint32_t at_least_ms) {
    NRF51_CLOCK->LFCLKSRC = LFCLK_RC;
    NRF51_CLOCK->LFCLKSTART = 1u;
    NRF51_WATCHDOG->CONFIG = RUN_IN_SLEEP;
    NRF51_WATCHDOG->CRV = (at_least_ms * FASTEST_HZ + 999u) / 1000u;
    NRF51_WATCHDOG->RREN = 1u;
    NRF51_WATCHDOG->START = 1u;
}

void watchdog_feed(void) {
    NRF51_WATCHDOG->RR[0] = RELOAD_KEY;
}
