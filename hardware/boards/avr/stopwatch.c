/* Timer 1 counts half microseconds in 16 bits; its overflows make the rest. */
#include "stopwatch.h"
#include "pins.h"

#include <avr/interrupt.h>
#include <avr/io.h>
#include <util/atomic.h>

_Static_assert(PINS_CORE_HZ == 16000000u, "an eighth of the clock is taken for half a microsecond");

static volatile uint32_t overflows;

ISR(TIMER1_OVF_vect) {
    overflows++;
}

void stopwatch_start(void) {
    TCCR1A = 0u;
    TCCR1B = 1u << CS11; /* clock / 8 */
    TIMSK1 = 1u << TOIE1;
}

uint32_t stopwatch_us(void) {
    uint32_t high;
    uint16_t low;
    ATOMIC_BLOCK(ATOMIC_RESTORESTATE) {
        low = TCNT1;
        high = overflows;
        /* It wrapped after interrupts were disabled, and before it was read. */
        if ((TIFR1 & 1u << TOV1) != 0u && low < 0x8000u) {
            high++;
        }
    }
    return high << 15 | low >> 1;
}
