/* Frames on a byte stream: COBS(body || crc16 little-endian) || 0x00. Twin of hardware/framing.py.
 *
 * The decoder takes one byte at a time and needs PROTOCOL_MAXIMUM_ENCODED_SIZE bytes of memory, whatever
 * comes. It never fails: what is no frame is counted and skipped up to the next delimiter.
 */
#ifndef FRAMING_H
#define FRAMING_H

#include "protocol.h"

#define FRAMING_MAXIMUM_FRAME_SIZE (PROTOCOL_MAXIMUM_ENCODED_SIZE + 1)

typedef struct {
    uint8_t buffer[PROTOCOL_MAXIMUM_ENCODED_SIZE];
    size_t size;
    bool skipping;
    uint32_t frames;     /* bodies handed out */
    uint32_t crc_errors; /* plausible frames with a wrong CRC */
    uint32_t garbage;    /* no COBS code, or too short */
    uint32_t oversize;   /* longer than any message */
} framing_decoder_t;

/* CRC-16/CCITT-FALSE: polynomial 0x1021, not reflected; from 0xFFFF "123456789" gives 0x29B1. */
uint16_t framing_crc16(uint16_t initial, const uint8_t *data, size_t size);

/* Writes the frame of a body of at most PROTOCOL_MAXIMUM_BODY_SIZE bytes, delimiter included, into `frame`
 * (FRAMING_MAXIMUM_FRAME_SIZE bytes). Returns its size. */
size_t framing_encode(const uint8_t *body, size_t size, uint8_t *frame);

void framing_reset(framing_decoder_t *decoder);

/* Takes one byte. Returns the size of the body that it completed, or 0. The body lies in decoder->buffer
 * until the next call. */
size_t framing_push(framing_decoder_t *decoder, uint8_t byte);

#endif
