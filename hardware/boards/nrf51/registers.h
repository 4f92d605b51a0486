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

#define NRF51_UART   ((nrf51_uart_t *)0x40002000u)
#define NRF51_TIMER0 ((nrf51_timer_t *)0x40008000u)
#define NRF51_RNG    ((nrf51_rng_t *)0x4000D000u)

#define NRF51_INTERRUPT_UART0 2u

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
