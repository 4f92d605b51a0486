/* The F405 has a generator of random numbers. The F401 has none: there, and when the generator does not
 * answer, it is the moment at which a host asks, in core clocks, that makes the number. */
#include "random.h"
#include "cortex_m.h"
#include "pins.h"
#include "registers.h"

#define PATIENCE 1000u

static uint32_t state;

void random_start(void) {
#if PINS_HAS_RANDOM
    rcc_enable(&STM32F4_RCC->AHB2ENR, RCC_AHB2ENR_RNG);
    STM32F4_RANDOM->CR = RANDOM_CR_RNGEN;
#endif
}

uint32_t random_number(void) {
    state = (state ^ SYSTICK->value) * 2654435761u + 1u;
#if PINS_HAS_RANDOM
    for (uint32_t polls = 0; polls < PATIENCE; polls++) {
        if ((STM32F4_RANDOM->SR & RANDOM_SR_DRDY) != 0u) {
            state ^= STM32F4_RANDOM->DR;
            break;
        }
    }
#endif
    return state;
}
