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

typedef struct {
    volatile uint32_t CR1, CR2, SMCR, DIER, SR, EGR, CCMR[2], CCER, CNT, PSC, ARR, RCR, CCR[4];
} stm32f4_timer_t;

typedef struct {
    volatile uint32_t ACR;
} stm32f4_flash_t;

typedef struct {
    volatile uint32_t CR, CSR;
} stm32f4_power_t;

typedef struct {
    volatile uint32_t KR, PR, RLR, SR;
} stm32f4_watchdog_t;

typedef struct {
    volatile uint32_t CR, SR, DR;
} stm32f4_random_t;

typedef struct {
    volatile uint32_t CR1, CR2, SR, DR;
} stm32f4_spi_t;

#define STM32F4_GPIO(letter)  ((stm32f4_gpio_t *)(0x40020000u + 0x400u * (uint32_t)((letter) - 'A')))
#define STM32F4_RCC           ((stm32f4_rcc_t *)0x40023800u)
#define STM32F4_SPI1          ((stm32f4_spi_t *)0x40013000u)
#define STM32F4_USART1        ((stm32f4_usart_t *)0x40011000u)
#define STM32F4_USART2        ((stm32f4_usart_t *)0x40004400u)
#define STM32F4_TIMER(number) ((stm32f4_timer_t *)(0x40000000u + 0x400u * ((number) - 2u))) /* 2 to 7 */
#define STM32F4_FLASH         ((stm32f4_flash_t *)0x40023C00u)
#define STM32F4_POWER         ((stm32f4_power_t *)0x40007000u)
#define STM32F4_WATCHDOG      ((stm32f4_watchdog_t *)0x40003000u)
#define STM32F4_RANDOM        ((stm32f4_random_t *)0x50060800u)

#define RCC_AHB1ENR_GPIO(letter) (1u << ((letter) - 'A'))
#define RCC_APB1ENR_USART2       (1u << 17)
#define RCC_APB2ENR_USART1       (1u << 4)
#define RCC_APB2ENR_SPI1         (1u << 12)

#define RCC_APB1ENR_TIMER(number) (1u << ((number) - 2u))
#define RCC_APB1ENR_PWR           (1u << 28)
#define RCC_CR_HSION              (1u << 0)
#define RCC_CR_HSIRDY             (1u << 1)
#define RCC_CR_HSEON              (1u << 16)
#define RCC_CR_HSERDY             (1u << 17)
#define RCC_CR_HSEBYP             (1u << 18)
#define RCC_CR_PLLON              (1u << 24)
#define RCC_CR_PLLRDY             (1u << 25)
#define RCC_PLLCFGR_HSE           (1u << 22)
#define RCC_CFGR_SW_PLL           2u
#define RCC_CFGR_SWS              (3u << 2)
#define RCC_CFGR_SWS_PLL          (2u << 2)
#define RCC_CSR_RMVF              (1u << 24)
#define RCC_CSR_BORRSTF           (1u << 25)
#define RCC_CSR_PINRSTF           (1u << 26)
#define RCC_CSR_PORRSTF           (1u << 27)
#define RCC_CSR_SFTRSTF           (1u << 28)
#define RCC_CSR_IWDGRSTF          (1u << 29)
#define RCC_CSR_WWDGRSTF          (1u << 30)
#define RCC_CSR_LPWRRSTF          (1u << 31)

#define RCC_AHB2ENR_RNG (1u << 6)
#define RANDOM_CR_RNGEN (1u << 2)
#define RANDOM_SR_DRDY  (1u << 0)

#define FLASH_ACR_CACHES (7u << 8) /* prefetch, instructions, data */

#define TIMER_CR1_CEN           (1u << 0)
#define TIMER_CR1_URS           (1u << 2) /* EGR makes no interrupt */
#define TIMER_CR1_ARPE          (1u << 7)
#define TIMER_CR2_OC3REF        (6u << 4) /* the output of channel 3 is what other timers see */
#define TIMER_DIER_UIE          (1u << 0)
#define TIMER_DIER_CC1IE        (1u << 1)
#define TIMER_SR_UIF            (1u << 0)
#define TIMER_SR_CC1IF          (1u << 1)
#define TIMER_EGR_UG            (1u << 0)
#define TIMER_SMCR_COUNT(input) (((input) << 4) | 7u) /* counts what another timer shows at this input */
#define TIMER_SMCR_ENCODER      3u                    /* both edges of both channels: four counts a line */
#define TIMER_CCMR_ENCODER                                                                                   \
    0xF1F1u /* channels 1 and 2 are inputs, filtered over 8 samples at a 32nd of the clock */
#define TIMER_CCMR_PWM1            0x68u /* PWM mode 1, preloaded, of one channel */
#define TIMER_CCMR_PWM1_DIRECT     0x60u /* the same, not preloaded */
#define TIMER_CCER_ENABLE(channel) (1u << (4u * ((channel) - 1u)))

#define WATCHDOG_KEY_WRITE  0x5555u
#define WATCHDOG_KEY_RELOAD 0xAAAAu
#define WATCHDOG_KEY_START  0xCCCCu

#define GPIO_PULL_UP   1u
#define GPIO_PULL_DOWN 2u

#define GPIO_MODE_INPUT     0u
#define GPIO_MODE_OUTPUT    1u
#define GPIO_MODE_ALTERNATE 2u
#define GPIO_MODE_ANALOG    3u

#define SPI_CR1_CPHA     (1u << 0)
#define SPI_CR1_CPOL     (1u << 1)
#define SPI_CR1_MSTR     (1u << 2)
#define SPI_CR1_BR_BY_32 (4u << 3)
#define SPI_CR1_SPE      (1u << 6)
#define SPI_CR1_SSI      (1u << 8)
#define SPI_CR1_SSM      (1u << 9)
#define SPI_SR_RXNE      (1u << 0)
#define SPI_SR_TXE       (1u << 1)

#define USART_SR_ORE     (1u << 3)
#define USART_SR_RXNE    (1u << 5)
#define USART_SR_TXE     (1u << 7)
#define USART_CR1_RE     (1u << 2)
#define USART_CR1_TE     (1u << 3)
#define USART_CR1_RXNEIE (1u << 5)
#define USART_CR1_UE     (1u << 13)

_Static_assert(offsetof(stm32f4_timer_t, CNT) == 0x24 && offsetof(stm32f4_timer_t, CCR) == 0x34,
               "TIM as in the manual");
_Static_assert(offsetof(stm32f4_rcc_t, AHB1ENR) == 0x30 && offsetof(stm32f4_rcc_t, APB2ENR) == 0x44 &&
                   offsetof(stm32f4_rcc_t, CSR) == 0x74,
               "RCC as in the manual");

/* External interrupt numbers. */
#define STM32F4_INTERRUPT_TIMER2 28u
#define STM32F4_INTERRUPT_TIMER4 30u
#define STM32F4_INTERRUPT_USART1 37u
#define STM32F4_INTERRUPT_USART2 38u
#define STM32F4_INTERRUPT_TIMER5 50u
#define STM32F4_INTERRUPT_TIMER6 54u

/* Switches a peripheral's clock on. Reading the register back takes the bus cycles that pass before the
 * peripheral hears its first write. */
static inline void rcc_enable(volatile uint32_t *enable, uint32_t bits) {
    *enable |= bits;
    (void)*enable;
}

#endif
