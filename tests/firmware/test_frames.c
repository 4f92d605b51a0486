/* Golden frames: reads `body frame` lines of hexadecimal from stdin and holds framing.c and protocol.h to
 * them. Prints the number of frames that passed; the first mismatch ends it with status 1. */
#include "framing.h"

#include <stdio.h>

#define MAXIMUM 256

static size_t parse(const char *hex, uint8_t *bytes) {
    size_t count = 0;
    unsigned value;
    while (count < MAXIMUM && sscanf(hex + 2 * count, "%2x", &value) == 1) {
        bytes[count++] = (uint8_t)value;
    }
    return count;
}

static int fail(const char *what, const char *body) {
    (void)printf("%s differs for body %s\n", what, body);
    return 1;
}

/* Unpacks and packs again: true when the bytes came back. Exactly one message must accept the body. */
static bool survives(const uint8_t *body, size_t size) {
    uint8_t again[PROTOCOL_MAXIMUM_BODY_SIZE] = {0};
    int accepted = 0;
    bool same = false;
#define TRY(name, NAME)                                                                                      \
    {                                                                                                        \
        protocol_##name##_t message;                                                                         \
        if (protocol_unpack_##name(body, size, &message)) {                                                  \
            accepted++;                                                                                      \
            same = protocol_pack_##name(&message, protocol_sequence(body), again) == size &&                 \
                   memcmp(body, again, size) == 0 && size == PROTOCOL_##NAME##_SIZE;                         \
        }                                                                                                    \
    }
    PROTOCOL_MESSAGES(TRY)
    return accepted == 1 && same;
}

int main(void) {
    char body_hex[2 * MAXIMUM + 1];
    char frame_hex[2 * MAXIMUM + 1];
    framing_decoder_t decoder;
    uint32_t count = 0;
    framing_reset(&decoder);
    if (framing_crc16(0xFFFFu, (const uint8_t *)"123456789", 9) != 0x29B1u) {
        return fail("the CRC check value", "123456789");
    }
    while (scanf("%512s %512s", body_hex, frame_hex) == 2) {
        uint8_t body[MAXIMUM];
        uint8_t frame[MAXIMUM];
        uint8_t encoded[FRAMING_MAXIMUM_FRAME_SIZE];
        const size_t body_size = parse(body_hex, body);
        const size_t frame_size = parse(frame_hex, frame);
        size_t decoded = 0;
        if (framing_encode(body, body_size, encoded) != frame_size ||
            memcmp(encoded, frame, frame_size) != 0) {
            return fail("the encoded frame", body_hex);
        }
        for (size_t i = 0; i < frame_size; i++) {
            decoded = framing_push(&decoder, frame[i]);
        }
        if (decoded != body_size || memcmp(decoder.buffer, body, body_size) != 0) {
            return fail("the decoded body", body_hex);
        }
        if (!survives(body, body_size)) {
            return fail("the unpacked message", body_hex);
        }
        count++;
    }
    (void)printf("%u\n", (unsigned)count);
    return decoder.frames == count ? 0 : 1;
}
