/* The registers of an nRF51822 that the drivers use; names and offsets as in Nordic's nRF51 Series Reference
 * Manual. */
#ifndef NRF51_REGISTERS_H
#define NRF51_REGISTERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    volatile uint32_t STARTRX, STOPRX, STARTTX, STOPTX, reserved0[3], SUSPEND, reserved1[56];
    volatile uint32_t CTS, NCTS, RXDRDY, reserved2[4], TXDRDY, reserved3, ERROR, reserved4[7], RXTO,
        reserved5[110];
    volatile uint32_t INTENSET_PLACE[1], INTENSET, INTENCLR, reserved6[93];
    volatile uint32_t ERRORSRC, reserved7[31], ENABLE, reserved8, PSELRTS, PSELTXD, PSELCTS, PSELRXD, RXD,
        TXD, reserved9;
    volatile uint32_t BAUDRATE, reserved10[17], CONFIG;
} nrf51_uart_t;

typedef struct {
    volatile uint32_t START, STOP, COUNT, CLEAR, SHUTDOWN, reserved0[11], CAPTURE[4], reserved1[60];
    volatile uint32_t COMPARE[4], reserved2[44], SHORTS, reserved3[64], INTENSET, INTENCLR, reserved4[126];
    volatile uint32_t MODE, BITMODE, reserved5, PRESCALER, reserved6[11], CC[4];
} nrf51_timer_t;

typedef struct {
    volatile uint32_t START, STOP, reserved0[62], VALRDY, reserved1[63], SHORTS, reserved2[63], INTEN_PLACE;
    volatile uint32_t INTENSET, INTENCLR, reserved3[126], CONFIG, VALUE;
} nrf51_rng_t;

typedef struct {
    volatile uint32_t reserved0[256], RESETREAS;
} nrf51_power_t;

typedef struct {
    volatile uint32_t HFCLKSTART, HFCLKSTOP, LFCLKSTART, LFCLKSTOP, reserved0[60], HFCLKSTARTED, LFCLKSTARTED;
    volatile uint32_t reserved1[268], LFCLKSRC_PLACE[15], LFCLKSRC;
} nrf51_clock_t;

typedef struct {
    volatile uint32_t reserved0[321], OUT, OUTSET, OUTCLR, IN, DIR, DIRSET, DIRCLR, reserved1[120],
        PIN_CNF[32];
} nrf51_gpio_t;

typedef struct {
    volatile uint32_t OUT[4], reserved0[60], IN[4], reserved1[256], CONFIG[4];
} nrf51_gpiote_t;

typedef struct {
    volatile uint32_t reserved0[320], CHEN, CHENSET, CHENCLR, reserved1;
    struct {
        volatile uint32_t EEP, TEP;
    } CH[16];
} nrf51_ppi_t;

typedef struct {
    volatile uint32_t START, STOP, READCLRACC, reserved0[61], SAMPLERDY, REPORTRDY, ACCOF, reserved1[61],
        SHORTS, reserved2[64], INTENSET, INTENCLR, reserved3[125];
    volatile uint32_t ENABLE, LEDPOL, SAMPLEPER, SAMPLE, REPORTPER, ACC, ACCREAD, PSELLED, PSELA, PSELB,
        DBFEN, reserved4[5], LEDPRE, ACCDBL, ACCDBLREAD;
} nrf51_qdec_t;

typedef struct {
    volatile uint32_t START, reserved0[255], RUNSTATUS, REQSTATUS, reserved1[63], CRV, RREN, CONFIG,
        reserved2[60], RR[8];
} nrf51_watchdog_t;

#define NRF51_POWER    ((nrf51_power_t *)0x40000000u)
#define NRF51_CLOCK    ((nrf51_clock_t *)0x40000000u)
#define NRF51_GPIOTE   ((nrf51_gpiote_t *)0x40006000u)
#define NRF51_TIMER1   ((nrf51_timer_t *)0x40009000u)
#define NRF51_TIMER2   ((nrf51_timer_t *)0x4000A000u)
#define NRF51_WATCHDOG ((nrf51_watchdog_t *)0x40010000u)
#define NRF51_QDEC     ((nrf51_qdec_t *)0x40012000u)
#define NRF51_PPI      ((nrf51_ppi_t *)0x4001F000u)
#define NRF51_GPIO     ((nrf51_gpio_t *)0x50000000u)
#define NRF51_UART     ((nrf51_uart_t *)0x40002000u)
#define NRF51_TIMER0   ((nrf51_timer_t *)0x40008000u)
#define NRF51_RNG      ((nrf51_rng_t *)0x4000D000u)

#define NRF51_INTERRUPT_UART0  2u
#define NRF51_INTERRUPT_TIMER0 8u

/* PIN_CNF */
#define GPIO_INPUT         0u
#define GPIO_OUTPUT        3u
#define GPIO_OUTPUT_READ   1u /* its input buffer stays connected: the level of the pin can be read */
#define GPIO_INPUT_PULL_UP (3u << 2)

_Static_assert(offsetof(nrf51_power_t, RESETREAS) == 0x400, "POWER as in the manual");
_Static_assert(offsetof(nrf51_clock_t, LFCLKSTARTED) == 0x104 && offsetof(nrf51_clock_t, LFCLKSRC) == 0x574,
               "CLOCK as in the manual");
_Static_assert(offsetof(nrf51_gpio_t, OUT) == 0x504 && offsetof(nrf51_gpio_t, IN) == 0x510 &&
                   offsetof(nrf51_gpio_t, PIN_CNF) == 0x700,
               "GPIO as in the manual");
_Static_assert(offsetof(nrf51_gpiote_t, CONFIG) == 0x510, "GPIOTE as in the manual");
_Static_assert(offsetof(nrf51_ppi_t, CHEN) == 0x500 && offsetof(nrf51_ppi_t, CH) == 0x510,
               "PPI as in the manual");
_Static_assert(offsetof(nrf51_qdec_t, SAMPLERDY) == 0x100 && offsetof(nrf51_qdec_t, SHORTS) == 0x200 &&
                   offsetof(nrf51_qdec_t, ENABLE) == 0x500 && offsetof(nrf51_qdec_t, ACCREAD) == 0x518 &&
                   offsetof(nrf51_qdec_t, PSELB) == 0x524 && offsetof(nrf51_qdec_t, DBFEN) == 0x528,
               "QDEC as in the manual");
_Static_assert(offsetof(nrf51_watchdog_t, RUNSTATUS) == 0x400 && offsetof(nrf51_watchdog_t, CRV) == 0x504 &&
                   offsetof(nrf51_watchdog_t, CONFIG) == 0x50C && offsetof(nrf51_watchdog_t, RR) == 0x600,
               "WDT as in the manual");

_Static_assert(offsetof(nrf51_uart_t, TXDRDY) == 0x11C && offsetof(nrf51_uart_t, RXTO) == 0x144 &&
                   offsetof(nrf51_uart_t, INTENSET) == 0x304 && offsetof(nrf51_uart_t, ENABLE) == 0x500 &&
                   offsetof(nrf51_uart_t, TXD) == 0x51C && offsetof(nrf51_uart_t, CONFIG) == 0x56C,
               "UART as in the manual");
_Static_assert(offsetof(nrf51_timer_t, CAPTURE) == 0x040 && offsetof(nrf51_timer_t, INTENSET) == 0x304 &&
                   offsetof(nrf51_timer_t, PRESCALER) == 0x510 && offsetof(nrf51_timer_t, CC) == 0x540,
               "TIMER as in the manual");
_Static_assert(offsetof(nrf51_rng_t, VALRDY) == 0x100 && offsetof(nrf51_rng_t, VALUE) == 0x508,
               "RNG as in the manual");

#endif
