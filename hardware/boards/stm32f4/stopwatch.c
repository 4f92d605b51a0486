/* SysTick counts eighths of the core clock downwards in 24 bits and wraps after 0.8 s at 168 MHz: what passed
 * since the last call is summed up at each. */
#include "stopwatch.h"
#include "cortex_m.h"
#include "pins.h"

#define CLOCKS_PER_US (PINS_CORE_HZ / 8u / 1000000u)

static uint32_t last, rest, total_us;

void stopwatch_start(void) {
    SYSTICK->reload = SYSTICK_MAXIMUM;
    SYSTICK->value = 0u;
    SYSTICK->control = SYSTICK_ENABLE;
    last = SYSTICK->value;
}

uint32_t stopwatch_us(void) {
    const uint32_t now = SYSTICK->value;
    rest += (last - now) & SYSTICK_MAXIMUM;
    last = now;
    total_us += rest / CLOCKS_PER_US;
    rest %= CLOCKS_PER_US;
    return total_us;
}
