#include "speed_ramp.h"

void speed_ramp_actuate(speed_ramp_t *ramp, const protocol_actuate_t *actuate) {
    ramp->acceleration = actuate->acceleration;
    ramp->end_speed = actuate->velocity_setpoint;
    ramp->left_ms = SPEED_RAMP_PERIOD_MS;
    ramp->enabled = true;
}

void speed_ramp_off(speed_ramp_t *ramp) {
    ramp->enabled = false;
    ramp->overdue = false;
    ramp->end_speed = 0.0f;
}

static float towards_zero(float speed, float step) {
    if (speed > step) {
        return speed - step;
    }
    return speed < -step ? speed + step : 0.0f;
}

float speed_ramp_millisecond(speed_ramp_t *ramp) {
    const float brake = PLANT_BRAKE_ACCELERATION * 0.001f;
    if (!ramp->enabled) {
        ramp->speed = 0.0f;
    } else if (!ramp->overdue && ramp->left_ms > -SPEED_RAMP_GRACE_MS) {
        ramp->left_ms--;
        const float left_s = ramp->left_ms > 0 ? (float)ramp->left_ms * 0.001f : 0.0f;
        ramp->speed = ramp->end_speed - ramp->acceleration * left_s;
    } else {
        ramp->overdue = true;
        ramp->speed = towards_zero(ramp->speed, brake);
    }
    return ramp->speed;
}
