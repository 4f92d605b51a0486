/* Serial ports of a chip: bytes in by interrupt, bytes out from the main loop. uart.c in the chip's folder.
 *
 * Port 0 is the link. On an emulated chip with a second one, port 1 is the plant.
 */
#ifndef UART_H
#define UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts a port with 8 data bits, no parity, one stop bit. */
void uart_start(unsigned port, uint32_t baud);

/* Copies at most `size` received bytes; the number copied. Bytes that came while the queue was full are lost
 * (the frame they belong to fails its CRC). */
size_t uart_read(unsigned port, uint8_t *data, size_t size);

/* Queues all bytes, or none when there is no room for all. */
bool uart_write(unsigned port, const uint8_t *data, size_t size);

/* Hands queued bytes to the transmitters as far as they take them; true while some are left. */
bool uart_pump(void);

/* True when uart_read() would give something on any port. */
bool uart_received(void);

#endif
