#include "encoder.h"
#include "gpio.h"

#include <string.h>

void encoder_start(encoder_t *encoder, const encoder_place_t *place) {
    stm32f4_timer_t *timer = STM32F4_TIMER(place->timer);
    encoder->place = place;
    encoder->last = 0;
    encoder->count = 0;
    rcc_enable(&STM32F4_RCC->APB1ENR, RCC_APB1ENR_TIMER(place->timer));
    for (unsigned i = 0; i < 2u; i++) {
        gpio_pull(place->letter, place->pins[i], GPIO_PULL_UP); /* open collectors, and a cable that is off */
        gpio_mode(place->letter, place->pins[i], GPIO_MODE_ALTERNATE, place->alternate);
    }
    timer->CCMR[0] = TIMER_CCMR_ENCODER;
    timer->SMCR = TIMER_SMCR_ENCODER;
    timer->ARR = 0xFFFFu; /* also of those with 32 bits: all are read alike */
    timer->CNT = 0u;
    timer->CR1 = TIMER_CR1_CEN;
}

int32_t encoder_read(encoder_t *encoder) {
    const uint16_t now = (uint16_t)STM32F4_TIMER(encoder->place->timer)->CNT;
    const uint16_t moved = (uint16_t)(now - encoder->last);
    int16_t difference;
    memcpy(&difference, &moved, sizeof difference);
    encoder->last = now;
    encoder->count = (int32_t)((uint32_t)encoder->count + (uint32_t)(int32_t)difference);
    return encoder->count;
}
