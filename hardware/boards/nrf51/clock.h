/* The clock of an nRF51. */
#ifndef NRF51_CLOCK_H
#define NRF51_CLOCK_H

#include <stdbool.h>

/* Changes from the internal oscillator to the crystal, both 16 MHz. False: the crystal does not start. */
bool clock_start(void);

#endif
