/* Pins of an STM32F4. */
#ifndef STM32F4_GPIO_H
#define STM32F4_GPIO_H

#include "registers.h"

/* Sets the mode of pin `number` of port `letter`; `alternate` selects the function where the mode is
 * ALTERNATE. The port's clock is switched on. */
static inline void gpio_mode(char letter, unsigned number, uint32_t mode, uint32_t alternate) {
    stm32f4_gpio_t *port = STM32F4_GPIO(letter);
    const unsigned half = number / 8u;
    const unsigned place = 4u * (number % 8u);
    STM32F4_RCC->AHB1ENR |= RCC_AHB1ENR_GPIO(letter);
    port->AFR[half] = (port->AFR[half] & ~(0xFu << place)) | (alternate << place);
    port->MODER = (port->MODER & ~(3u << (2u * number))) | (mode << (2u * number));
}

#endif
