/* Judges the encoders on their raw counts, beside what the drive's set-point did.
 *
 * Frozen: the set-point has gone PLANT_AXIS_FROZEN without a new cart count, or has changed by
 * PLANT_ROD_FROZEN without a new rod count, or a count stands still where nothing can stop that soon. Jump: a
 * change of speed that no cart or rod can reach within one period.
 */
#ifndef COUNTS_H
#define COUNTS_H

#include "protocol.h"

typedef struct {
    int32_t count;       /* of the running period */
    uint32_t difference; /* counts moved in it, modulo 2^32 */
    bool jumped;         /* by more than physics allow */
    float unseen;        /* what the set-point did since the count last changed: cart m, rod m/s */
} counts_encoder_t;

typedef struct {
    counts_encoder_t cart;
    counts_encoder_t rod;
    float earlier_setpoint; /* m/s, of the period before the last */
    bool whole;             /* the last difference was of one period */
} counts_t;

/* The drive starts from standstill. */
static inline void counts_start(counts_t *counts) {
    counts->earlier_setpoint = 0.0f;
}

/* The counts of this period beside what the set-point did in it: it went straight from the one of the call
 * before to `setpoint` (m/s). Only while `armed` is anything unseen. Where `elapsed` is not 1 period, the
 * counts moved in it are not to be compared with those of one: neither then nor in the next call is anything
 * a jump. */
void counts_step(counts_t *counts, const protocol_sensors_t *sensors, uint32_t elapsed, float setpoint,
                 bool armed);

/* What is wrong with an encoder in this period: PROTOCOL_FAULT_ENCODER_FROZEN, _ENCODER_JUMP or _NONE.
 * `frozen`: PLANT_AXIS_FROZEN or PLANT_ROD_FROZEN. */
uint8_t counts_fault(const counts_encoder_t *encoder, float frozen);

#endif
