/* When steps are due, for every driver with step and direction inputs.
 *
 * What a motor has to follow is not a rate but a position, the sum of the speeds of all milliseconds. Each
 * millisecond the interval between steps is chosen anew: counted from the last step, so that evenly spaced
 * steps end the millisecond at that position. It lies between the old interval and the one of the new speed;
 * a step whose interval has passed already is made at once. What rounding, a late interrupt or a change of
 * direction took away comes in the next millisecond: at each the count is the sum within one step (and what
 * half a clock an interval makes in a millisecond), and no speed is too slow.
 */
#ifndef STEP_PACE_H
#define STEP_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Steps that may be made up for. More are missing only when the speed asks for more than a pulse allows: they
 * are forgotten, because a motor that hurries after its position when it should brake is worse than one that
 * is behind. */
#define STEP_PACE_CARRY 4.0f

typedef struct {
    float missing; /* steps from the last count to the position that the running millisecond ends with */
    int32_t last;  /* count that was seen last */
    bool backward; /* the direction input */
} step_pace_t;

/* The drive is off: where it stands is where it should be. */
static inline void step_pace_rest(step_pace_t *pace, int32_t count) {
    pace->missing = 0.0f;
    pace->last = count;
}

/* Steps that came in between. */
static inline void step_pace_seen(step_pace_t *pace, int32_t count) {
    pace->missing -= (float)(count - pace->last);
    pace->last = count;
}

/* A millisecond begins that shall move the axis by so many `steps`. */
static inline void step_pace_millisecond(step_pace_t *pace, int32_t count, float steps) {
    step_pace_seen(pace, count);
    if (pace->missing > STEP_PACE_CARRY) {
        pace->missing = STEP_PACE_CARRY;
    } else if (pace->missing < -STEP_PACE_CARRY) {
        pace->missing = -STEP_PACE_CARRY;
    }
    pace->missing += steps;
}

/* Steps to be made in this millisecond in the direction of the input. From 1 on there is one to make; from -1
 * down the direction is wrong. In between the motor waits, so that a position on the border between two steps
 * does not shake it. */
static inline float step_pace_due(const step_pace_t *pace) {
    return pace->backward ? -pace->missing : pace->missing;
}

/* Clocks from the last step, `passed` ago, to the next one, when at least 1 is `due`. */
static inline uint32_t step_pace_interval(float due, uint32_t passed, uint32_t millisecond,
                                          uint32_t shortest) {
    const float interval = (float)(passed + millisecond) / due;
    return interval > (float)shortest ? (uint32_t)(interval + 0.5f) : shortest;
}

#endif
