/* Normally closed contacts to ground: open, or a broken wire, reads high. */
#ifndef STM32F4_CONTACT_H
#define STM32F4_CONTACT_H

#include "gpio.h"

static inline void contact_start(char letter, unsigned pin) {
    gpio_pull(letter, pin, GPIO_PULL_UP);
    gpio_mode(letter, pin, GPIO_MODE_INPUT, 0u);
}

static inline bool contact_open(char letter, unsigned pin) {
    return gpio_read(letter, pin);
}

#endif
