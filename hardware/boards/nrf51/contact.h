/* Normally closed contacts to ground: open, or a broken wire, reads high. */
#ifndef NRF51_CONTACT_H
#define NRF51_CONTACT_H

#include "pin.h"

static inline void contact_start(unsigned pin) {
    pin_mode(pin, GPIO_INPUT_PULL_UP);
}

static inline bool contact_open(unsigned pin) {
    return pin_read(pin);
}

#endif
