/* What the firmware makes of a recorded wire: reads bytes from stdin and prints a line for each body that
 * framing.c hands out: its bytes, the message whose unpack function accepts it, and what packing that again
 * gives; `-` for both where no function does. Last the decoder's counts.
 */
#include "framing.h"

#include <stdio.h>

static void print_bytes(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        (void)printf("%02x", data[i]);
    }
}

static void print_body(const uint8_t *body, size_t size) {
    uint8_t again[PROTOCOL_MAXIMUM_BODY_SIZE];
    const char *name = "-";
    size_t again_size = 0;
#define TRY(lower, UPPER)                                                                                    \
    {                                                                                                        \
        protocol_##lower##_t message;                                                                        \
        if (protocol_unpack_##lower(body, size, &message)) {                                                 \
            name = #lower;                                                                                   \
            again_size = protocol_pack_##lower(&message, protocol_sequence(body), again);                    \
        }                                                                                                    \
    }
    PROTOCOL_MESSAGES(TRY)
    print_bytes(body, size);
    (void)printf(" %s ", name);
    print_bytes(again, again_size);
    (void)printf("%s\n", again_size == 0u ? "-" : "");
}

int main(void) {
    framing_decoder_t decoder;
    int byte;
    framing_reset(&decoder);
    while ((byte = getchar()) != EOF) {
        const size_t size = framing_push(&decoder, (uint8_t)byte);
        if (size > 0u) {
            print_body(decoder.buffer, size);
        }
    }
    (void)printf("%u %u %u %u\n", (unsigned)decoder.frames, (unsigned)decoder.crc_errors,
                 (unsigned)decoder.garbage, (unsigned)decoder.oversize);
    return 0;
}
