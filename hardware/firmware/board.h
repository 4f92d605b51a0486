/* What the firmware needs from a board. A port writes one file boards/X.c with these functions and an entry
 * point that calls firmware_run(); nothing else changes.
 *
 * Nothing here blocks, except board_wait().
 */
#ifndef BOARD_H
#define BOARD_H

#include "protocol.h"

/* Sleeps until there may be something to do: a link byte, a period tick. May return early. */
void board_wait(void);

/* Microseconds since some start, wrapping. In lock-step: `time_us` of the last SENSORS. */
uint32_t board_time_us(void);

/* Microseconds since some start, wrapping, for measuring durations: runs on while lock-step time stands
 * still. */
uint32_t board_stopwatch_us(void);

/* Copies at most `size` received link bytes; the number copied, 0 when there are none. */
size_t board_link_read(uint8_t *data, size_t size);

/* Queues one whole frame (at the start a delimiter) for the link, or drops it whole when there is no room
 * (the peer sees a gap in the sequence): a slow reader must never delay a period. */
void board_link_write(const uint8_t *data, size_t size);

/* True once per control period, with the encoder counts, the tick number (1, 2, ...) and the board_time_us()
 * at which they were sampled, which a busy firmware may hear of much later. */
bool board_sensors(protocol_sensors_t *sensors);

/* Hands the drive its acceleration until the next tick, or disables it. `troubles`: BOARD_TROUBLE_ bits of
 * everything that is wrong, where actuate->fault only names what came first. */
void board_actuate(const protocol_actuate_t *actuate, uint8_t troubles);

/* An encoder failed. What it counts means nothing, and its zero is lost: once the drive is off the board has
 * to take the reference away, which clears the bit, and find it anew. */
#define BOARD_TROUBLE_ENCODER 1u
/* Since ARM the axis has been at an end of its travel: its motor may turn the wrong way. */
#define BOARD_TROUBLE_END 2u

/* A number nobody can foresee, different at every call and after every reset. */
uint32_t board_nonce(void);

/* Name for HELLO_REPLY, at most 16 characters. */
const char *board_name(void);

/* Why this start happened, a PROTOCOL_RESET_CAUSE_: read once, before the flags are cleared. */
uint8_t board_reset_cause(void);

/* PROTOCOL_VARIANT_HIL or _REAL. */
uint8_t board_variant(void);

/* CRC-32 (IEEE 802.3, as zlib computes it) over the flashed image and the CRC-32 of the image that is stored,
 * little-endian, behind it: BOARD_IMAGE_GOOD exactly when no bit of the two has changed. A board whose image
 * is no flash content returns BOARD_IMAGE_GOOD. */
uint32_t board_image_check(void);
#define BOARD_IMAGE_GOOD 0x2144DF1Cu

/* Lock-step only: the host's answer to `tick` was processed. Elsewhere it does nothing. */
void board_exchange_done(uint32_t tick);

/* The firmware: never returns. Called by the board's entry point once clocks and ports are up. */
void firmware_run(void);

#endif
