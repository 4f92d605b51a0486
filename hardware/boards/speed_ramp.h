/* The speed that a motor is to have, millisecond by millisecond, from what the safety machine says once a
 * control period. Shared by every kind of motor.
 */
#ifndef SPEED_RAMP_H
#define SPEED_RAMP_H

#include "plant.h"
#include "protocol.h"

#define SPEED_RAMP_PERIOD_MS (PLANT_PERIOD_US / 1000)
#define SPEED_RAMP_GRACE_MS  (SPEED_RAMP_PERIOD_MS / 2)

/* From the last speed_ramp_actuate() until every speed has become zero by itself: 297 ms for the cart, 423 ms
 * for the EDUKIT, and a millisecond for rounding. */
#define SPEED_RAMP_REST_MS                                                                                   \
    ((uint32_t)(SPEED_RAMP_PERIOD_MS + SPEED_RAMP_GRACE_MS) +                                                \
     (uint32_t)(1000.0f * PLANT_SPEED_LIMIT / PLANT_BRAKE_ACCELERATION) + 2u)

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
