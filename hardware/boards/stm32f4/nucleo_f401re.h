/* What every board with a Nucleo-F401RE (MB1136) has: clocks, link, rod encoder, contacts. */
#ifndef NUCLEO_F401RE_H
#define NUCLEO_F401RE_H

/* What hosts open by default. 42 MHz / 46 is 913043, 0.93 % slow; 1 Mbaud would be exact. */
#define PINS_LINK_BAUD 921600u

/* Clocks. The ST-LINK gives 8 MHz; VOS scale 2 is the most that an F401 has. */
#define PINS_CRYSTAL_MHZ       8u
#define PINS_CRYSTAL_IS_CLOCK  1
#define PINS_FLASH_WAIT_STATES 2u
#define PINS_POWER_SCALE       (2u << 14)
#define PINS_CORE_HZ           84000000u
#define PINS_APB1_HZ           42000000u
#define PINS_APB2_HZ           84000000u
#define PINS_TIMER_HZ          84000000u /* timers 2 to 5 */
#define PINS_HAS_RANDOM        0

/* The link: USART2 on PA2 and PA3, which the ST-LINK passes on as a virtual COM port. */
#define PINS_UART_COUNT 1
#define PINS_UARTS                                                                                           \
    {STM32F4_USART2,                                                                                         \
     &STM32F4_RCC->APB1ENR,                                                                                  \
     RCC_APB1ENR_USART2,                                                                                     \
     PINS_APB1_HZ,                                                                                           \
     STM32F4_INTERRUPT_USART2,                                                                               \
     'A',                                                                                                    \
     2,                                                                                                      \
     3}

/* Rod encoder: timer 3 on PB4 [D5] and PB5 [D4]. */
#define PINS_ROD_ENCODER {.timer = 3u, .letter = 'B', .pins = {4, 5}, .alternate = 2}

/* Emergency stop: normally closed to ground, pulled up inside, PC8. The blue button PC13, low when pressed,
 * says that the arm stands in its middle. */
#define PINS_EMERGENCY_STOP 'C', 8u
#define PINS_MIDDLE_BUTTON  'C', 13u

#endif
