/* Measures durations. stopwatch.c in the chip's folder. */
#ifndef STOPWATCH_H
#define STOPWATCH_H

#include <stdint.h>

void stopwatch_start(void);

/* Microseconds since stopwatch_start(), wrapping. Call it at least twice a second. */
uint32_t stopwatch_us(void);

#endif
