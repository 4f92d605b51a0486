/* The independent watchdog of a chip: resets it when the main loop no longer takes its periods.
 *
 * A reset switches the drive off, and an axis that is let go at full speed coasts into its end. So it has to
 * wait until the motor, which notices a missing period by itself (motor.h), has braked to a standstill.
 */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include <stdint.h>

/* From here on nothing stops it. It waits for at least so many ms after it was fed, whatever its oscillator's
 * tolerance; an STM32F4's takes up to 2.8 times as long. */
void watchdog_start(uint32_t at_least_ms);

void watchdog_feed(void);

#endif
