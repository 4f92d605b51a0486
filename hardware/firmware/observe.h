/* From encoder counts to the base observation.
 *
 * One call a period turns the two counts into {axis position [m or rad], axis speed, sin, cos of the rod
 * angle, rod speed [rad/s]}; angle 0 is upright, count 0 is hanging. Speeds are differences of counts through
 * a first-order low-pass. Every step is one single-precision operation in a fixed order (compile with
 * -ffp-contract=off): the twin hardware/observe.py gives the same bits.
 */
#ifndef OBSERVE_H
#define OBSERVE_H

#include <stdint.h>

typedef struct {
    int32_t axis_count;
    int32_t rod_count;
    float axis_speed; /* m/s or rad/s, filtered */
    float rod_speed;  /* rad/s, filtered */
} observe_t;

/* Start at standstill at these counts. */
void observe_reset(observe_t *observe, int32_t axis_count, int32_t rod_count);

/* One period: writes five floats. */
void observe_step(observe_t *observe, int32_t axis_count, int32_t rod_count, float observation[5]);

/* Sine and cosine of the rod angle; the count is reduced to a quarter turn in integers, exactly. Where
 * the counts of a turn are no power of two, the angle jumps when a counter wraps: 2^31 counts, 890,000 turns
 * of 2,400, away from where it was homed. */
void observe_sin_cos(int32_t rod_count, float *sine, float *cosine);

#endif
