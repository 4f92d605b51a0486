/* The one quadrature decoder of an nRF51. */
#ifndef NRF51_ENCODER_H
#define NRF51_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint8_t pins[2];
} encoder_place_t;

typedef struct {
    int32_t count;
    bool lost;
} encoder_t;

void encoder_start(encoder_t *encoder, const encoder_place_t *place);

/* The count now, four a line: call it at least every 100 ms. */
int32_t encoder_read(encoder_t *encoder);

/* True when counts were lost since the last call, because it turned too fast. */
bool encoder_lost(encoder_t *encoder);

#endif
