/* The clock tree of an STM32F4. */
#ifndef STM32F4_CLOCK_H
#define STM32F4_CLOCK_H

#include <stdbool.h>

/* Brings the core to PINS_CORE_HZ through the PLL, from the crystal or, when that does not start, from the
 * internal oscillator (1 % accurate: good enough for the link). False: the PLL does not lock; nothing must
 * run then. */
bool clock_start(void);

#endif
