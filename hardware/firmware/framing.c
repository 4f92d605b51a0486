#include "framing.h"

#define SMALLEST_DECODED 5u /* type, sequence, crc */

_Static_assert(PROTOCOL_MAXIMUM_BODY_SIZE + 2 < 254,
               "one COBS block per zero: longer bodies need the 0xFF code");

uint16_t framing_crc16(uint16_t initial, const uint8_t *data, size_t size) {
    uint16_t crc = initial;
    for (size_t i = 0; i < size; i++) {
        /* Nibble-free form of the polynomial division: no table, about 12 instructions a byte. */
        uint16_t x = (uint16_t)((crc >> 8) ^ data[i]);
        x = (uint16_t)(x ^ (x >> 4));
        crc = (uint16_t)((uint16_t)(crc << 8) ^ (uint16_t)(x << 12) ^ (uint16_t)(x << 5) ^ x);
    }
    return crc;
}

size_t framing_encode(const uint8_t *body, size_t size, uint8_t *frame) {
    const uint16_t crc = framing_crc16(PROTOCOL_CRC_INITIAL, body, size);
    size_t code_at = 0; /* where the length of the running block goes */
    size_t out = 1;
    for (size_t i = 0; i < size + 2u; i++) {
        const uint8_t byte = (uint8_t)(i < size ? body[i] : (i == size ? crc & 0xFFu : crc >> 8));
        if (byte == 0u) {
            frame[code_at] = (uint8_t)(out - code_at);
            code_at = out;
        } else {
            frame[out] = byte;
        }
        out++;
    }
    frame[code_at] = (uint8_t)(out - code_at);
    frame[out] = 0u;
    return out + 1u;
}

void framing_reset(framing_decoder_t *decoder) {
    memset(decoder, 0, sizeof *decoder);
}

/* Decodes the buffer in place (the decoded bytes never overtake the encoded ones). Returns the decoded size,
 * or 0 when it is no COBS code; zeros cannot be inside, they delimit. */
static size_t decode_in_place(framing_decoder_t *decoder) {
    size_t in = 0;
    size_t out = 0;
    while (in < decoder->size) {
        const size_t code = decoder->buffer[in];
        const size_t end = in + code;
        if (end > decoder->size) {
            return 0;
        }
        for (in++; in < end; in++) {
            decoder->buffer[out++] = decoder->buffer[in];
        }
        if (code != 255u && end < decoder->size) {
            decoder->buffer[out++] = 0u;
        }
    }
    return out;
}

static size_t finish(framing_decoder_t *decoder) {
    const size_t decoded = decode_in_place(decoder);
    if (decoded < SMALLEST_DECODED) {
        decoder->garbage++;
        return 0;
    }
    const size_t size = decoded - 2u;
    if (framing_crc16(PROTOCOL_CRC_INITIAL, decoder->buffer, size) !=
        protocol_get_u16(decoder->buffer + size)) {
        decoder->crc_errors++;
        return 0;
    }
    decoder->frames++;
    return size;
}

size_t framing_push(framing_decoder_t *decoder, uint8_t byte) {
    if (byte == 0u) {
        size_t size = 0;
        if (!decoder->skipping && decoder->size > 0u) {
            size = finish(decoder);
        }
        decoder->size = 0;
        decoder->skipping = false;
        return size;
    }
    if (decoder->skipping) {
        return 0;
    }
    if (decoder->size == sizeof decoder->buffer) {
        decoder->oversize++;
        decoder->skipping = true;
        return 0;
    }
    decoder->buffer[decoder->size++] = byte;
    return 0;
}
