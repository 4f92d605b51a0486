#include "drive.h"
#include "plant.h"

#include <math.h>

static float minimum(float a, float b) {
    return b < a ? b : a;
}

static float maximum(float a, float b) {
    return b > a ? b : a;
}

/* Largest speed towards an end `room` away from which the axis still stops in time. */
static float fastest(float room) {
    if (room <= 0.0f) {
        return 0.0f;
    }
    return PLANT_BRAKE_ACCELERATION *
           (sqrtf(PLANT_HALF_PERIOD_SQUARE + room * PLANT_TWO_OVER_BRAKE) - PLANT_HALF_PERIOD);
}

void drive_reset(drive_t *drive) {
    drive->velocity_setpoint = 0.0f;
}

float drive_latch(drive_t *drive, float acceleration, float axis_position) {
    const float setpoint = drive->velocity_setpoint;
    float applied = minimum(maximum(acceleration, -PLANT_ACCELERATION_LIMIT), PLANT_ACCELERATION_LIMIT);
    float target = setpoint + applied * PLANT_PERIOD;
    target = minimum(maximum(target, -PLANT_SPEED_LIMIT), PLANT_SPEED_LIMIT);
    const float moved = PLANT_HALF_PERIOD * setpoint;
    target = minimum(target, fastest((PLANT_AXIS_SOFT_LIMIT - axis_position) - moved));
    target = maximum(target, -fastest((PLANT_AXIS_SOFT_LIMIT + axis_position) + moved));
    applied = (target - setpoint) * PLANT_PER_PERIOD;
    applied = minimum(maximum(applied, -PLANT_ACCELERATION_LIMIT), PLANT_ACCELERATION_LIMIT);
    drive->velocity_setpoint = setpoint + applied * PLANT_PERIOD;
    return applied;
}

float drive_brake(const drive_t *drive) {
    const float wanted = -drive->velocity_setpoint * PLANT_PER_PERIOD;
    return minimum(maximum(wanted, -PLANT_BRAKE_ACCELERATION), PLANT_BRAKE_ACCELERATION);
}
