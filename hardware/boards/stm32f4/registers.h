/* The registers of an STM32F405 and F401 that the drivers use; names and offsets as in ST's RM0090 and
 * RM0368. */
#ifndef STM32F4_REGISTERS_H
#define STM32F4_REGISTERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    volatile uint32_t MODER, OTYPER, OSPEEDR, PUPDR, IDR, ODR, BSRR, LCKR, AFR[2];
} stm32f4_gpio_t;

typedef struct {
    volatile uint32_t CR, PLLCFGR, CFGR, CIR, AHB1RSTR, AHB2RSTR, AHB3RSTR, reserved0, APB1RSTR, APB2RSTR,
        reserved1[2];
    volatile uint32_t AHB1ENR, AHB2ENR, AHB3ENR, reserved2, APB1ENR, APB2ENR, reserved3[2];
    volatile uint32_t AHB1LPENR, AHB2LPENR, AHB3LPENR, reserved4, APB1LPENR, APB2LPENR, reserved5[2], BDCR,
        CSR;
} stm32f4_rcc_t;

typedef struct {
    volatile uint32_t SR, DR, BRR, CR1, CR2, CR3, GTPR;
} stm32f4_usart_t;

#ifndef STM32F4_MOCK /* tests of drivers on a PC put memory in place of registers */
#define STM32F4_GPIO(letter) ((stm32f4_gpio_t *)(0x40020000u + 0x400u * (uint32_t)((letter) - 'A')))
#define STM32F4_RCC          ((stm32f4_rcc_t *)0x40023800u)
#define STM32F4_USART1       ((stm32f4_usart_t *)0x40011000u)
#define STM32F4_USART2       ((stm32f4_usart_t *)0x40004400u)
#endif

#define RCC_AHB1ENR_GPIO(letter) (1u << ((letter) - 'A'))
#define RCC_APB1ENR_USART2       (1u << 17)
#define RCC_APB2ENR_USART1       (1u << 4)

#define GPIO_MODE_INPUT     0u
#define GPIO_MODE_OUTPUT    1u
#define GPIO_MODE_ALTERNATE 2u
#define GPIO_MODE_ANALOG    3u

#define USART_SR_ORE     (1u << 3)
#define USART_SR_RXNE    (1u << 5)
#define USART_SR_TXE     (1u << 7)
#define USART_CR1_RE     (1u << 2)
#define USART_CR1_TE     (1u << 3)
#define USART_CR1_RXNEIE (1u << 5)
#define USART_CR1_UE     (1u << 13)

_Static_assert(offsetof(stm32f4_rcc_t, AHB1ENR) == 0x30 && offsetof(stm32f4_rcc_t, APB2ENR) == 0x44 &&
                   offsetof(stm32f4_rcc_t, CSR) == 0x74,
               "RCC as in the manual");

/* External interrupt numbers. */
#define STM32F4_INTERRUPT_USART1 37u
#define STM32F4_INTERRUPT_USART2 38u

#endif
