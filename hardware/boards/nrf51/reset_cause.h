/* Why an nRF51 started. */
#ifndef NRF51_RESET_CAUSE_H
#define NRF51_RESET_CAUSE_H

#include <stdint.h>

/* A PROTOCOL_RESET_CAUSE_; clears the flags, so that the next start sees its own. */
uint8_t reset_cause_take(void);

#endif
