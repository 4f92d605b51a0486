/* What is wired where on a BBC micro:bit v1 (nRF51822). Its one serial port carries link and plant. */
#ifndef PINS_H
#define PINS_H

#define PINS_BOARD_NAME "microbit"
#define PINS_LINK_BAUD  115200u /* the most that its USB interface passes on */
#define PINS_UART_COUNT 1
#define PINS_TRANSMIT   24u
#define PINS_RECEIVE    25u

#endif
