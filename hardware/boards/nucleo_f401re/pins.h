/* What is wired where on the ST STEVAL-EDUKIT01: a Nucleo-F401RE under an X-NUCLEO-IHM01A1 (one L6474). The
 * arm has no encoder: its position is the count of microsteps. The Arduino header's names stand in brackets.
 */
#ifndef PINS_H
#define PINS_H

#include "nucleo_f401re.h"

#define PINS_BOARD_NAME "nucleo_f401re"
#define PINS_VECTORS                                                                                         \
    [STM32F4_INTERRUPT_USART2] = uart_interrupt_0, [PINS_TICK_INTERRUPT] = tick_interrupt,                   \
    [PINS_STEP_INTERRUPT] = step_interrupt

/* Control period and speed ramp: an F401 has no timer 6. */
#define PINS_TICK_TIMER     4u
#define PINS_TICK_INTERRUPT STM32F4_INTERRUPT_TIMER4

/* Step pulses. Timer 3 would have the step pin as a channel, but it counts the rod's encoder: another timer's
 * interrupt moves the pin. */
#define PINS_STEP_TIMER     5u
#define PINS_STEP_INTERRUPT STM32F4_INTERRUPT_TIMER5
#define PINS_STEP           'C', 7u  /* [D9] STCK */
#define PINS_DIRECTION      'A', 8u  /* [D7] */
#define PINS_STANDBY        'A', 9u  /* [D8] STBY/RESET: low is off */
#define PINS_FLAG           'A', 10u /* [D2] open drain, low is an alarm */
#define PINS_SELECT         'B', 6u  /* [D10] chip select of SPI1 */
#define PINS_SPI_LETTER     'A'      /* SPI1: PA5 [D13], PA6 [D12], PA7 [D11] */

#define PINS_STEP_PULSE_NS                                                                                   \
    20000u /* that STCK is high, and low at least; at full speed there are 100000 a step */
#define PINS_STEPS_PER_UNIT 509.295818f /* microsteps a radian: 200 x 16 a turn */

/* The motor's phase current, mA: 31.25 to 4000 in steps of 31.25; and the current that is too much, 375 to
 * 6000 in steps of 375. */
#define PINS_CURRENT_MA     625u
#define PINS_OVERCURRENT_MA 1125u

#endif
