#include "uart.h"
#include "byte_queue.h"
#include "cortex_m.h"
#include "pins.h"
#include "registers.h"

#define ENABLED 4u

static byte_queue_t in, out;
static bool sending; /* the transmitter has a byte and will say TXDRDY */

/* The baud rate's register value: rate * 2^32 / 16 MHz, rounded to the 12 upper bits that count. */
static uint32_t rate_code(uint32_t baud) {
    const uint64_t exact = (((uint64_t)baud << 32) + 8000000u) / 16000000u;
    return (uint32_t)((exact + 0x800u) & 0xFFFFF000u);
}

void uart_interrupt_0(void) {
    /* The receiver keeps up to six bytes and repeats its event for each. */
    while (NRF51_UART->RXDRDY != 0u) {
        NRF51_UART->RXDRDY = 0u;
        (void)byte_queue_put(&in, (uint8_t)NRF51_UART->RXD);
    }
}

void uart_start(unsigned port, uint32_t baud) {
    (void)port; /* there is one */
    NRF51_UART->PSELTXD = PINS_TRANSMIT;
    NRF51_UART->PSELRXD = PINS_RECEIVE;
    NRF51_UART->BAUDRATE = rate_code(baud);
    NRF51_UART->ENABLE = ENABLED;
    NRF51_UART->RXDRDY = 0u;
    NRF51_UART->TXDRDY = 0u;
    NRF51_UART->INTENSET = 1u << 2; /* RXDRDY */
    NRF51_UART->STARTTX = 1u;
    NRF51_UART->STARTRX = 1u;
    interrupt_allow(NRF51_INTERRUPT_UART0);
}

size_t uart_read(unsigned port, uint8_t *data, size_t size) {
    (void)port;
    return byte_queue_read(&in, data, size);
}

bool uart_write(unsigned port, const uint8_t *data, size_t size) {
    (void)port;
    return byte_queue_write(&out, data, size);
}

bool uart_pump(void) {
    while (byte_queue_used(&out) > 0u) {
        if (sending && NRF51_UART->TXDRDY == 0u) {
            return true;
        }
        NRF51_UART->TXDRDY = 0u;
        sending = true;
        NRF51_UART->TXD = byte_queue_take(&out);
    }
    return false;
}

bool uart_received(void) {
    return byte_queue_used(&in) > 0u;
}
