/* What is wired where on a Netduino Plus 2 (STM32F405RG). */
#ifndef PINS_H
#define PINS_H

#define PINS_BOARD_NAME "netduinoplus2"
#define PINS_LINK_BAUD  921600u

#define PINS_CORE_HZ 168000000u
/* Buses APB1 and APB2 at 168 MHz core clock. */
#define PINS_APB1_HZ 42000000u
#define PINS_APB2_HZ 84000000u

/* Port 0, the link: USART1 on PB6 (out) and PB7 (in). Port 1, the plant when emulated: USART2 on PA2 and PA3.
 */
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
    [STM32F4_INTERRUPT_USART1] = uart_interrupt_0, [STM32F4_INTERRUPT_USART2] = uart_interrupt_1

#endif
