/* The one serial port of an ATmega328P. */
#include "uart.h"
#include "byte_queue.h"
#include "pins.h"

#include <avr/interrupt.h>
#include <avr/io.h>

static byte_queue_t in, out;

ISR(USART_RX_vect) {
    (void)byte_queue_put(&in, UDR0);
}

/* At double speed a bit takes 8 clocks. */
void uart_start(unsigned port, uint32_t baud) {
    (void)port; /* there is one */
    UBRR0 = (uint16_t)((PINS_CORE_HZ / 8u + baud / 2u) / baud - 1u);
    UCSR0A = 1u << U2X0;
    UCSR0C = 3u << UCSZ00; /* 8 data bits, no parity, one stop bit */
    UCSR0B = 1u << RXCIE0 | 1u << RXEN0 | 1u << TXEN0;
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
    while (byte_queue_used(&out) > 0u && (UCSR0A & 1u << UDRE0) != 0u) {
        UDR0 = byte_queue_take(&out);
    }
    return byte_queue_used(&out) > 0u;
}

bool uart_received(void) {
    return byte_queue_used(&in) > 0u;
}
