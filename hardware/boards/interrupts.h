/* What the boards ask of a processor about interrupts, whatever its make. */
#ifndef INTERRUPTS_H
#define INTERRUPTS_H

#if defined(__AVR__)

#include <avr/interrupt.h>
#include <avr/sleep.h>

static inline void interrupts_disable(void) {
    cli();
}

static inline void interrupts_enable(void) {
    sei();
}

/* Called with interrupts disabled. The instruction behind `sei` runs before any interrupt does: no wake-up is
 * lost between a check and this. */
static inline void wait_for_interrupt(void) {
    SMCR = 1u << SE; /* idle: clocks of timers and serial port go on */
    sei();
    sleep_cpu();
    cli();
    SMCR = 0u;
}

#else

#include "cortex_m.h"

#endif

#endif
