#include "clock.h"
#include "registers.h"

#define PATIENCE 100000u /* polls: tens of milliseconds, the crystal needs one */

bool clock_start(void) {
    NRF51_CLOCK->HFCLKSTARTED = 0u;
    NRF51_CLOCK->HFCLKSTART = 1u;
    for (uint32_t polls = 0; polls < PATIENCE; polls++) {
        if (NRF51_CLOCK->HFCLKSTARTED != 0u) {
            return true;
        }
    }
    return false;
}
