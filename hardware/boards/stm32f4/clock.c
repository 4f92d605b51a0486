#include "clock.h"
#include "pins.h"
#include "registers.h"

#define PATIENCE         100000u /* polls: tens of milliseconds on the internal oscillator */
#define INTERNAL_MHZ     16u
#define OSCILLATOR_2_MHZ 336u /* PLLN: the VCO runs at 336 MHz, from an input of 1 MHz */
#define USB_DIVIDER      7u   /* PLLQ: 48 MHz for the random number generator */
#define POWER_CR_SCALE   (3u << 14)
#define APB1_BY_4        (5u << 10)
#define APB1_BY_2        (4u << 10)
#define APB2_BY_2        (4u << 13)

static bool wait_for(const volatile uint32_t *at, uint32_t mask, uint32_t value) {
    for (uint32_t polls = 0; polls < PATIENCE; polls++) {
        if ((*at & mask) == value) {
            return true;
        }
    }
    return false;
}

bool clock_start(void) {
    stm32f4_rcc_t *rcc = STM32F4_RCC;
    rcc_enable(&rcc->APB1ENR, RCC_APB1ENR_PWR);
    STM32F4_POWER->CR = (STM32F4_POWER->CR & ~POWER_CR_SCALE) | PINS_POWER_SCALE;
    STM32F4_FLASH->ACR = FLASH_ACR_CACHES | PINS_FLASH_WAIT_STATES;
    rcc->CR |= (PINS_CRYSTAL_IS_CLOCK ? RCC_CR_HSEBYP : 0u) | RCC_CR_HSEON;
    const bool crystal = wait_for(&rcc->CR, RCC_CR_HSERDY, RCC_CR_HSERDY);
    const uint32_t divider = PINS_CORE_HZ == 168000000u ? 0u : 1u; /* PLLP: 2 or 4 */
    rcc->PLLCFGR = (crystal ? PINS_CRYSTAL_MHZ : INTERNAL_MHZ) | (OSCILLATOR_2_MHZ << 6) | (divider << 16) |
                   (crystal ? RCC_PLLCFGR_HSE : 0u) | (USB_DIVIDER << 24);
    rcc->CR |= RCC_CR_PLLON;
    if (!wait_for(&rcc->CR, RCC_CR_PLLRDY, RCC_CR_PLLRDY)) {
        return false;
    }
    /* Bus dividers before the switch: the buses must never run faster than they may. */
    rcc->CFGR = PINS_CORE_HZ == 168000000u ? (APB1_BY_4 | APB2_BY_2) : APB1_BY_2;
    rcc->CFGR |= RCC_CFGR_SW_PLL;
    return wait_for(&rcc->CFGR, RCC_CFGR_SWS, RCC_CFGR_SWS_PLL);
}
