#include "tick.h"
#include "cortex_m.h"
#include "pins.h"
#include "registers.h"

#define COUNT_HZ 1000000u

void tick_start(void) {
    stm32f4_timer_t *timer = STM32F4_TIMER(PINS_TICK_TIMER);
    rcc_enable(&STM32F4_RCC->APB1ENR, RCC_APB1ENR_TIMER(PINS_TICK_TIMER));
    timer->PSC = PINS_TIMER_HZ / COUNT_HZ - 1u;
    timer->ARR = COUNT_HZ / 1000u - 1u;
    timer->EGR = TIMER_EGR_UG;
    timer->SR = 0u;
    timer->DIER = TIMER_DIER_UIE;
    timer->CR1 = TIMER_CR1_CEN;
    interrupt_allow(PINS_TICK_INTERRUPT);
}

void tick_interrupt(void) {
    STM32F4_TIMER(PINS_TICK_TIMER)->SR = ~TIMER_SR_UIF;
    tick_millisecond();
}
