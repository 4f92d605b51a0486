/* The boundary: what the safety machine does once a period. */
#include "safety.h"
#include "board.h"
#include "plant.h"

#include <math.h>

#define END_SWITCHES  (PROTOCOL_SENSOR_FLAG_END_LEFT | PROTOCOL_SENSOR_FLAG_END_RIGHT)
#define NOT_ARMED_BY  (PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP | PROTOCOL_SENSOR_FLAG_DRIVE_FAULT | END_SWITCHES)
#define REST_SETPOINT 0.0001f /* m/s: what rounding leaves after braking */

static void update_homing(safety_t *safety, const protocol_sensors_t *sensors) {
    homing_step(&safety->homing, (sensors->flags & PROTOCOL_SENSOR_FLAG_REFERENCED) != 0u,
                sensors->rod_count);
    if (safety->state == PROTOCOL_STATE_UNHOMED && safety->homing.homed) {
        safety->state = PROTOCOL_STATE_IDLE;
    } else if (safety->state == PROTOCOL_STATE_IDLE && !safety->homing.homed) {
        safety->state = PROTOCOL_STATE_UNHOMED;
    }
}

/* Where an encoder failed once, its reference is worth nothing. */
static void check_encoder(safety_t *safety, const counts_encoder_t *encoder, uint32_t name, float frozen) {
    const uint8_t fault = counts_fault(encoder, frozen);
    if (fault != PROTOCOL_FAULT_NONE) {
        safety_stop(safety, fault, name);
        homing_spend(&safety->homing);
    }
}

static void stop_at_end(safety_t *safety, uint32_t detail) {
    safety_stop(safety, PROTOCOL_FAULT_RAIL_END, detail);
    safety->end_reached = true;
}

/* What stops a moving cart. The order is the order of blame when several are true. */
static void check(safety_t *safety, const protocol_sensors_t *sensors, const float observation[5],
                  uint32_t elapsed) {
    if ((sensors->flags & PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP) != 0u) {
        safety_stop(safety, PROTOCOL_FAULT_E_STOP, sensors->flags);
    }
    if (!safety->homing.homed) {
        safety_stop(safety, PROTOCOL_FAULT_HOMING_LOST, sensors->flags);
    }
    if ((sensors->flags & PROTOCOL_SENSOR_FLAG_DRIVE_FAULT) != 0u) {
        safety_stop(safety, PROTOCOL_FAULT_DRIVE_FAULT, sensors->flags);
    }
    if ((sensors->flags & END_SWITCHES) != 0u) {
        stop_at_end(safety, sensors->flags);
    }
    if (elapsed != 1u) {
        safety_stop(safety, PROTOCOL_FAULT_PERIOD_LOST, elapsed);
    }
    check_encoder(safety, &safety->counts.cart, PROTOCOL_ENCODER_CART, PLANT_AXIS_FROZEN);
    check_encoder(safety, &safety->counts.rod, PROTOCOL_ENCODER_ROD, PLANT_ROD_FROZEN);
    if (fabsf(observation[0]) > PLANT_AXIS_LIMIT) {
        stop_at_end(safety, sensors->flags);
    }
    if (safety->state != PROTOCOL_STATE_ARMED) {
        return;
    }
    if (fabsf(observation[4]) > PLANT_ROD_SPEED_LIMIT) {
        safety_stop(safety, PROTOCOL_FAULT_ROD_TOO_FAST, 0u);
        return;
    }
    const uint32_t missed = safety->tick - 1u - safety->fed_tick;
    if (!safety->untethered && missed >= safety->watchdog_periods) {
        safety_stop(safety, PROTOCOL_FAULT_WATCHDOG, missed);
    }
}

/* The action of this period, before the drive limit: the answer, or for lack of one the previous action
 * again. */
static float latch_request(safety_t *safety) {
    if (safety->answered) {
        safety->request = safety->answer;
    } else if (safety->tick != safety->armed_tick) {
        safety->flags |= PROTOCOL_OBSERVATION_FLAG_HELD;
    }
    safety->answered = false;
    return safety->request;
}

static bool at_rest(const safety_t *safety, const float observation[5]) {
    return (fabsf(safety->drive.velocity_setpoint) <= REST_SETPOINT &&
            fabsf(observation[1]) <= PLANT_REST_SPEED) ||
           safety->braking_periods >= PLANT_DISARM_DELAY_PERIODS;
}

static void switch_off(safety_t *safety) {
    drive_reset(&safety->drive);
    if (safety->fault != PROTOCOL_FAULT_NONE) {
        safety->state = PROTOCOL_STATE_OFF;
    } else {
        safety->state = safety->homing.homed ? PROTOCOL_STATE_IDLE : PROTOCOL_STATE_UNHOMED;
    }
}

/* With a damaged image the drive is off, whatever the rest of this file decided. It can only have decided
 * otherwise when the damage lies in safety_arm()'s own comparison. */
static void guard_image(safety_t *safety, protocol_actuate_t *actuate) {
    if (safety->image_check == BOARD_IMAGE_GOOD) {
        return;
    }
    if (safety_drives(safety)) {
        safety_stop(safety, PROTOCOL_FAULT_IMAGE_DAMAGED, safety->image_check);
        switch_off(safety);
    }
    memset(actuate, 0, sizeof *actuate); /* enable = PROTOCOL_ENABLE_OFF */
    actuate->tick = safety->tick;
    actuate->fault = safety->fault;
}

void safety_period(safety_t *safety, const protocol_sensors_t *sensors, const float observation[5],
                   protocol_actuate_t *actuate) {
    const uint32_t elapsed = sensors->tick - safety->tick;
    safety->tick = sensors->tick;
    safety->flags = 0;
    memset(actuate, 0, sizeof *actuate); /* enable = PROTOCOL_ENABLE_OFF */
    actuate->tick = sensors->tick;
    safety->open_inputs = sensors->flags & NOT_ARMED_BY;
    update_homing(safety, sensors);
    counts_step(&safety->counts, sensors, elapsed, safety->drive.velocity_setpoint,
                safety->state == PROTOCOL_STATE_ARMED);
    if (safety_drives(safety)) {
        check(safety, sensors, observation, elapsed);
    }
    if (safety->state == PROTOCOL_STATE_BRAKING && (!safety->enabled || at_rest(safety, observation))) {
        switch_off(safety);
    }
    if (safety->state == PROTOCOL_STATE_ARMED) {
        safety->enabled = true;
        const float request = latch_request(safety);
        actuate->acceleration = drive_latch(&safety->drive, request, observation[0]);
        actuate->enable = PROTOCOL_ENABLE_DRIVE;
        /* Rounding of the set-point is no limit: only a visible difference counts. */
        if (fabsf(actuate->acceleration - request) > 0.001f) {
            safety->flags |= PROTOCOL_OBSERVATION_FLAG_LIMITED;
        }
    } else if (safety->state == PROTOCOL_STATE_BRAKING) {
        safety->braking_periods++;
        actuate->acceleration = drive_latch(&safety->drive, drive_brake(&safety->drive), observation[0]);
        actuate->enable = PROTOCOL_ENABLE_BRAKE;
    }
    actuate->velocity_setpoint = safety->drive.velocity_setpoint;
    actuate->fault = safety->fault;
    guard_image(safety, actuate);
    if (safety->homing.homed) {
        safety->flags |= PROTOCOL_OBSERVATION_FLAG_HOMED;
    }
    if (safety->configured) {
        safety->flags |= PROTOCOL_OBSERVATION_FLAG_CONFIGURED;
    }
    if (safety->self_test_ok) {
        safety->flags |= PROTOCOL_OBSERVATION_FLAG_SELF_TEST_OK;
    }
}
