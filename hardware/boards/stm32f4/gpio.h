/* Pins of an STM32F4: port letter and number. */
#ifndef STM32F4_GPIO_H
#define STM32F4_GPIO_H

#include "registers.h"

#include <stdbool.h>

static inline stm32f4_gpio_t *gpio_port(char letter) {
    rcc_enable(&STM32F4_RCC->AHB1ENR, RCC_AHB1ENR_GPIO(letter));
    return STM32F4_GPIO(letter);
}

/* `alternate` selects the function where the mode is GPIO_MODE_ALTERNATE. */
static inline void gpio_mode(char letter, unsigned number, uint32_t mode, uint32_t alternate) {
    stm32f4_gpio_t *port = gpio_port(letter);
    const unsigned half = number / 8u;
    const unsigned place = 4u * (number % 8u);
    port->AFR[half] = (port->AFR[half] & ~(0xFu << place)) | (alternate << place);
    port->MODER = (port->MODER & ~(3u << (2u * number))) | (mode << (2u * number));
}

/* `pull`: 0, GPIO_PULL_UP or GPIO_PULL_DOWN. */
static inline void gpio_pull(char letter, unsigned number, uint32_t pull) {
    stm32f4_gpio_t *port = gpio_port(letter);
    port->PUPDR = (port->PUPDR & ~(3u << (2u * number))) | (pull << (2u * number));
}

/* Also before the pin is an output: it then starts with this level. */
static inline void gpio_write(char letter, unsigned number, bool high) {
    gpio_port(letter)->BSRR = 1u << (high ? number : number + 16u);
}

static inline bool gpio_read(char letter, unsigned number) {
    return (gpio_port(letter)->IDR & (1u << number)) != 0u;
}

#endif
