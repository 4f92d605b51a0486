/* What is wired where on a Nucleo-F401RE with a direct-current motor: an H-bridge with PWM, direction and
 * enable inputs, and an encoder on the driven axis. The Arduino header's names stand in brackets. */
#ifndef PINS_H
#define PINS_H

#include "nucleo_f401re.h"

#define PINS_BOARD_NAME "nucleo_bridge"
#define PINS_VECTORS    [STM32F4_INTERRUPT_USART2] = uart_interrupt_0, [PINS_TICK_INTERRUPT] = tick_interrupt

/* Control period, speed ramp and speed loop: an F401 has no timer 6. */
#define PINS_TICK_TIMER     5u
#define PINS_TICK_INTERRUPT STM32F4_INTERRUPT_TIMER5

/* Axis encoder: timer 2 on PA0 [A0] and PA1 [A1]. */
#define PINS_AXIS_ENCODER {.timer = 2u, .letter = 'A', .pins = {0, 1}, .alternate = 1}

/* H-bridge. Enable is active high and needs a resistor to ground: a chip in reset lets the pin float, and the
 * drive must be off then. */
#define PINS_PWM_TIMER     4u
#define PINS_PWM           'B', 6u /* [D10] channel 1 */
#define PINS_PWM_ALTERNATE 2u
#define PINS_PWM_HZ        20000u
#define PINS_DIRECTION     'A', 8u  /* [D7] high is backward */
#define PINS_ENABLE        'A', 9u  /* [D8] */
#define PINS_FAULT         'A', 10u /* [D2] open drain, low is a fault */

/* Speed loop, to be tuned on the machine. Duty (1 is all) for a speed that is wanted, for a speed that is
 * missing and for a position that is missing; in the plant's unit and seconds. And the largest duty. */
#define PINS_DUTY_PER_SPEED    0.04f
#define PINS_DUTY_PER_ERROR    0.05f
#define PINS_DUTY_PER_POSITION 1.0f
#define PINS_DUTY_LIMIT        0.9f

#endif
