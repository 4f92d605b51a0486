/* Quadrature counters of an STM32F4: a timer counts the edges of two channels by itself. */
#ifndef STM32F4_ENCODER_H
#define STM32F4_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    unsigned timer;    /* 2 to 5 */
    char letter;       /* port of channel 1 (A) and channel 2 (B) */
    uint8_t pins[2];   /* of the two channels */
    uint8_t alternate; /* function of both pins */
} encoder_place_t;

typedef struct {
    const encoder_place_t *place;
    uint16_t last;
    int32_t count;
} encoder_t;

void encoder_start(encoder_t *encoder, const encoder_place_t *place);

/* True when counts were lost since the last call: never here, the filter takes 3 us and a count at least 12.
 */
static inline bool encoder_lost(encoder_t *encoder) {
    (void)encoder;
    return false;
}

/* The count now, four a line, widened to 32 bits: call it at least every 32,000 counts. */
int32_t encoder_read(encoder_t *encoder);

#endif
