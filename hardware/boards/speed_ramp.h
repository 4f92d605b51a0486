/* The speed that a motor is to have, millisecond by millisecond, from what the safety machine says once a
 * control period. Shared by every kind of motor.
 */
#ifndef SPEED_RAMP_H
#define SPEED_RAMP_H

#include "protocol.h"

typedef struct {
    volatile bool enabled;
    volatile float acceleration; /* of the running period, plant's unit / s^2 */
    volatile float end_speed;    /* that the period ends with, plant's unit / s */
    volatile int16_t left_ms;    /* of the running period; negative: overdue */
    volatile bool overdue;       /* it brakes by itself and goes on doing so until it is switched off */
    float speed;                 /* now; in the interrupt only */
} speed_ramp_t;

/* The period that begins. Not for PROTOCOL_ENABLE_OFF. */
void speed_ramp_actuate(speed_ramp_t *ramp, const protocol_actuate_t *actuate);

/* Disabled, at rest. */
void speed_ramp_off(speed_ramp_t *ramp);

/* One millisecond later: the speed. Half a period after the next speed_ramp_actuate() should have come it
 * goes to zero at the brake's acceleration, and stays there whatever is said: whoever comes back so late
 * takes a speed for granted that the axis has no more. */
float speed_ramp_millisecond(speed_ramp_t *ramp);

#endif
