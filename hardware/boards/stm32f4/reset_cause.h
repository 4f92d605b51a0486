/* Why an STM32F4 started. */
#ifndef STM32F4_RESET_CAUSE_H
#define STM32F4_RESET_CAUSE_H

#include <stdint.h>

/* A PROTOCOL_RESET_CAUSE_; clears the flags, so that the next start sees its own. */
uint8_t reset_cause_take(void);

#endif
