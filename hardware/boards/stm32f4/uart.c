#include "uart.h"
#include "byte_queue.h"
#include "cortex_m.h"
#include "gpio.h"
#include "pins.h"

typedef struct {
    stm32f4_usart_t *usart;
    volatile uint32_t *clock;
    uint32_t clock_bit;
    uint32_t frequency_hz; /* of the bus that it hangs on */
    unsigned interrupt;
    char letter;
    uint8_t transmit_pin, receive_pin;
} uart_place_t;

#define UART_PORTS (sizeof places / sizeof places[0])
#define ALTERNATE  7u /* USART1 to 3 on every pin that has them */

static const uart_place_t places[] = {
    PINS_UARTS,
};

static struct {
    byte_queue_t in, out;
} ports[UART_PORTS];

static void receive(unsigned port) {
    stm32f4_usart_t *usart = places[port].usart;
    /* Status first, then data: that order clears an overrun, too. */
    while ((usart->SR & (USART_SR_RXNE | USART_SR_ORE)) != 0u) {
        (void)byte_queue_put(&ports[port].in, (uint8_t)usart->DR);
    }
}

void uart_interrupt_0(void) {
    receive(0);
}

#if PINS_UART_COUNT > 1
void uart_interrupt_1(void) {
    receive(1);
}
#endif

void uart_start(unsigned port, uint32_t baud) {
    const uart_place_t *place = &places[port];
    rcc_enable(place->clock, place->clock_bit);
    gpio_mode(place->letter, place->transmit_pin, GPIO_MODE_ALTERNATE, ALTERNATE);
    gpio_mode(place->letter, place->receive_pin, GPIO_MODE_ALTERNATE, ALTERNATE);
    place->usart->BRR = (place->frequency_hz + baud / 2u) / baud;
    place->usart->CR1 = USART_CR1_UE | USART_CR1_TE | USART_CR1_RE | USART_CR1_RXNEIE;
    interrupt_allow(place->interrupt);
}

size_t uart_read(unsigned port, uint8_t *data, size_t size) {
    return byte_queue_read(&ports[port].in, data, size);
}

bool uart_write(unsigned port, const uint8_t *data, size_t size) {
    return byte_queue_write(&ports[port].out, data, size);
}

bool uart_pump(void) {
    bool left = false;
    for (unsigned port = 0; port < UART_PORTS; port++) {
        byte_queue_t *out = &ports[port].out;
        while (byte_queue_used(out) > 0u && (places[port].usart->SR & USART_SR_TXE) != 0u) {
            places[port].usart->DR = byte_queue_take(out);
        }
        left = left || byte_queue_used(out) > 0u;
    }
    return left;
}

bool uart_received(void) {
    for (unsigned port = 0; port < UART_PORTS; port++) {
        if (byte_queue_used(&ports[port].in) > 0u) {
            return true;
        }
    }
    return false;
}
