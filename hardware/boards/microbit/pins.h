/* What is wired where on a BBC micro:bit v1 (nRF51822). Its one serial port carries link and plant. */
#ifndef PINS_H
#define PINS_H

#define PINS_BOARD_NAME "microbit"
#define PINS_LINK_BAUD  115200u /* the most that its USB interface passes on */
#define PINS_UART_COUNT 1
#define PINS_TRANSMIT   24u
#define PINS_RECEIVE    25u

/* Names of the edge connector in brackets. Rod encoder: 3 [P0] and 2 [P1]. */
#define PINS_ROD_ENCODER {.pins = {3u, 2u}}

/* Stepper driver: step 23 [P13], direction 22 [P14], enable 21 [P15], fault 16 [P16] (open drain, low).
 * Enable is active high and needs a resistor to ground: a chip in reset lets the pin float, and the drive
 * must be off then. A step is a count of the cart, of which the plant has 20000 a metre. */
#define PINS_STEP           23u
#define PINS_DIRECTION      22u
#define PINS_ENABLE         21u
#define PINS_DRIVE_FAULT    16u
#define PINS_STEP_PULSE_NS  5000u /* that step is high, and low at least; at 4 m/s there are 12500 a step */
#define PINS_STEPS_PER_UNIT 20000.0f

/* Normally closed contacts to ground, pulled up inside: emergency stop 18 [P8]. Button A, 17 [P5], low when
 * pressed, says that the cart stands in its middle: without an encoder its way to the ends is not counted. */
#define PINS_EMERGENCY_STOP 18u
#define PINS_END_LEFT       20u /* [P12] */
#define PINS_END_RIGHT      1u  /* [P2] */
#define PINS_MIDDLE_BUTTON  17u

#endif
