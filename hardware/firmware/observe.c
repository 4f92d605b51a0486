#include "observe.h"
#include "plant.h"

#include <string.h>

_Static_assert(PLANT_ROD_COUNTS_PER_REVOLUTION % 8 == 0,
               "angle reduction is exact in integers: an eighth of a turn must be a whole number of counts");

/* Taylor coefficients 1/3! 1/5! ... rounded to single precision. */
#define S1 (-0.166666672f)
#define S2 0.00833333377f
#define S3 (-0.000198412701f)
#define S4 2.75573188e-06f
#define C1 (-0.5f)
#define C2 0.0416666679f
#define C3 (-0.00138888892f)
#define C4 2.48015876e-05f

/* Difference of two counters that may have wrapped in between. */
static int32_t count_difference(int32_t newer, int32_t older) {
    uint32_t difference = (uint32_t)newer - (uint32_t)older;
    int32_t value;
    memcpy(&value, &difference, sizeof value);
    return value;
}

void observe_reset(observe_t *observe, int32_t axis_count, int32_t rod_count) {
    observe->axis_count = axis_count;
    observe->rod_count = rod_count;
    observe->axis_speed = 0.0f;
    observe->rod_speed = 0.0f;
}

void observe_sin_cos(int32_t rod_count, float *sine, float *cosine) {
    const int32_t quarter = PLANT_ROD_COUNTS_PER_REVOLUTION / 4;
    const uint32_t turn = PLANT_ROD_COUNTS_PER_REVOLUTION;
    /* Counted from the most negative count nothing is negative, and % is the exact modulo. Of a power of two
     * compilers make masks. */
    const uint32_t from_lowest = (uint32_t)rod_count + 0x80000000u;
    const uint32_t half_turn_from_lowest = turn + turn / 2u - 0x80000000u % turn;
    const int32_t upright = (int32_t)((from_lowest % turn + half_turn_from_lowest) % turn);
    const int32_t quadrant = (upright + quarter / 2) / quarter;
    const float phi = (float)(upright - quadrant * quarter) * PLANT_RADIANS_PER_COUNT;
    const float square = phi * phi;
    const float s = phi + phi * (square * (S1 + square * (S2 + square * (S3 + square * S4))));
    const float c = 1.0f + square * (C1 + square * (C2 + square * (C3 + square * C4)));
    switch ((uint32_t)quadrant & 3u) {
    case 0:
        *sine = s;
        *cosine = c;
        break;
    case 1:
        *sine = c;
        *cosine = -s;
        break;
    case 2:
        *sine = -s;
        *cosine = -c;
        break;
    default:
        *sine = -c;
        *cosine = s;
        break;
    }
}

void observe_step(observe_t *observe, int32_t axis_count, int32_t rod_count, float observation[5]) {
    const float axis_raw =
        (float)count_difference(axis_count, observe->axis_count) * PLANT_AXIS_SPEED_PER_COUNT;
    const float rod_raw = (float)count_difference(rod_count, observe->rod_count) * PLANT_ROD_SPEED_PER_COUNT;
    observe->axis_speed += PLANT_VELOCITY_FILTER * (axis_raw - observe->axis_speed);
    observe->rod_speed += PLANT_VELOCITY_FILTER * (rod_raw - observe->rod_speed);
    observe->axis_count = axis_count;
    observe->rod_count = rod_count;
    observation[0] = (float)axis_count * PLANT_AXIS_PER_COUNT;
    observation[1] = observe->axis_speed;
    observe_sin_cos(rod_count, &observation[2], &observation[3]);
    observation[4] = observe->rod_speed;
}
