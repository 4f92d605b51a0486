/* Pins of an nRF51. */
#ifndef NRF51_PIN_H
#define NRF51_PIN_H

#include "registers.h"

#include <stdbool.h>

/* Also before the pin is an output: it then starts with this level. */
static inline void pin_write(unsigned number, bool high) {
    if (high) {
        NRF51_GPIO->OUTSET = 1u << number;
    } else {
        NRF51_GPIO->OUTCLR = 1u << number;
    }
}

static inline bool pin_read(unsigned number) {
    return (NRF51_GPIO->IN & (1u << number)) != 0u;
}

/* `mode`: GPIO_INPUT, GPIO_INPUT_PULL_UP, GPIO_OUTPUT or GPIO_OUTPUT_READ. */
static inline void pin_mode(unsigned number, uint32_t mode) {
    NRF51_GPIO->PIN_CNF[number] = mode;
}

#endif
