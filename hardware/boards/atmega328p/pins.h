/* An ATmega328P at 16 MHz, as on an Arduino Uno or Nano. Its one serial port carries link and plant. */
#ifndef PINS_H
#define PINS_H

#define PINS_BOARD_NAME "atmega328p"
#define PINS_CORE_HZ    16000000u
#define PINS_LINK_BAUD  500000u /* divides the clock exactly; 115200 would be 2 % off */
#define PINS_UART_COUNT 1

#endif
