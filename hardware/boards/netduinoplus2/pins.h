/* What is wired where on a Netduino Plus 2 (STM32F405RG). The header's names stand in brackets. */
#ifndef PINS_H
#define PINS_H

#define PINS_BOARD_NAME "netduinoplus2"
#define PINS_LINK_BAUD  921600u /* 84 MHz / 91: 0.16 % fast */

/* Clocks. */
#define PINS_CRYSTAL_MHZ       25u
#define PINS_CRYSTAL_IS_CLOCK  0 /* a crystal, not another chip's clock output */
#define PINS_FLASH_WAIT_STATES 5u
#define PINS_POWER_SCALE       (1u << 14) /* VOS: scale 1, for more than 144 MHz */
#define PINS_CORE_HZ           168000000u
#define PINS_APB1_HZ           42000000u
#define PINS_APB2_HZ           84000000u
#define PINS_TIMER_HZ          84000000u /* timers 2 to 7 */
#define PINS_HAS_RANDOM        1

/* Port 0, the link: USART1, out on PB6 [SCL], in on PB7 [SDA]. Port 1, the plant when emulated: USART2 on PA2
 * [D3] and PA3 [D2]. */
#define PINS_UART_COUNT 2
#define PINS_UARTS                                                                                           \
    {STM32F4_USART1,                                                                                         \
     &STM32F4_RCC->APB2ENR,                                                                                  \
     RCC_APB2ENR_USART1,                                                                                     \
     PINS_APB2_HZ,                                                                                           \
     STM32F4_INTERRUPT_USART1,                                                                               \
     'B',                                                                                                    \
     6,                                                                                                      \
     7},                                                                                                     \
        {STM32F4_USART2,                                                                                     \
         &STM32F4_RCC->APB1ENR,                                                                              \
         RCC_APB1ENR_USART2,                                                                                 \
         PINS_APB1_HZ,                                                                                       \
         STM32F4_INTERRUPT_USART2,                                                                           \
         'A',                                                                                                \
         2,                                                                                                  \
         3}
#define PINS_VECTORS                                                                                         \
    [STM32F4_INTERRUPT_USART1] = uart_interrupt_0, [STM32F4_INTERRUPT_USART2] = uart_interrupt_1,            \
    [PINS_TICK_INTERRUPT] = tick_interrupt

/* Control period and speed ramp. */
#define PINS_TICK_TIMER     6u
#define PINS_TICK_INTERRUPT STM32F4_INTERRUPT_TIMER6

/* Encoders: cart on PC6 [D1] and PC7 [D0], rod on PA0 [D8] and PA1 [D7]. */
#define PINS_AXIS_ENCODER {.timer = 3u, .letter = 'C', .pins = {6, 7}, .alternate = 2}
#define PINS_ROD_ENCODER  {.timer = 5u, .letter = 'A', .pins = {0, 1}, .alternate = 2}

/* Stepper driver: step PB10 [D10], direction PB9 [D6], enable PB12 [D4], fault PB8 [D5] (open drain, low).
 * Enable is active high and needs a resistor to ground: a chip in reset lets the pin float, and the drive
 * must be off then. Step is channel 3 of timer 2, which has 32 bits; timer 4 counts the steps, because
 * timer 2 is its input 1. */
#define PINS_STEP_TIMER       2u
#define PINS_STEP_LETTER      'B'
#define PINS_STEP_PIN         10u
#define PINS_STEP_ALTERNATE   1u
#define PINS_COUNT_TIMER      4u
#define PINS_COUNT_INPUT      1u
#define PINS_DIRECTION_LETTER 'B'
#define PINS_DIRECTION_PIN    9u
#define PINS_ENABLE_LETTER    'B'
#define PINS_ENABLE_PIN       12u
#define PINS_FAULT_LETTER     'B'
#define PINS_FAULT_PIN        8u
#define PINS_STEP_PULSE_NS                                                                                   \
    1500u /* that step is high, and low at least: what the driver asks for; at 4 m/s there are 3100 a step   \
           */
#define PINS_STEPS_PER_UNIT                                                                                  \
    80000.0f /* microsteps a metre: 200 x 16 steps a turn of a 20-tooth pulley, 2 mm pitch */

/* Normally closed contacts to ground, pulled up inside: emergency stop PB13 [D13], end switches PB14 [D12]
 * (left) and PB15 [D11] (right). Open, or a broken wire, reads high. */
#define PINS_EMERGENCY_STOP 'B', 13u
#define PINS_END_LEFT       'B', 14u
#define PINS_END_RIGHT      'B', 15u

#endif
