#include "safety.h"
#include "board.h"
#include "plant.h"

#include <string.h>

#define END_SWITCHES  (PROTOCOL_SENSOR_FLAG_END_LEFT | PROTOCOL_SENSOR_FLAG_END_RIGHT)
#define REST_SETPOINT 0.0001f /* m/s: what rounding leaves after braking */

static float magnitude(float value) {
    return value < 0.0f ? -value : value;
}

static bool driving(const safety_t *safety) {
    return safety->state == PROTOCOL_STATE_ARMED || safety->state == PROTOCOL_STATE_BRAKING;
}

void safety_start(safety_t *safety, bool self_test_ok, uint32_t image_check) {
    memset(safety, 0, sizeof *safety);
    safety->image_check = image_check;
    safety->self_test_ok = self_test_ok;
    drive_reset(&safety->drive);
}

uint8_t safety_configure(safety_t *safety, const protocol_config_t *config) {
    if (driving(safety)) {
        return PROTOCOL_RESULT_WRONG_STATE;
    }
    if (config->mode > PROTOCOL_MODE_SHADOW || config->watchdog_periods == 0u ||
        config->watchdog_periods > PROTOCOL_MAXIMUM_WATCHDOG_PERIODS || config->untethered > 1u ||
        (config->untethered == 1u && config->mode != PROTOCOL_MODE_DEVICE)) {
        return PROTOCOL_RESULT_OUT_OF_RANGE;
    }
    safety->mode = config->mode;
    safety->watchdog_periods = config->watchdog_periods;
    safety->untethered = config->untethered == 1u;
    safety->configured = true;
    return PROTOCOL_RESULT_OK;
}

uint8_t safety_arm(safety_t *safety, bool nonce_ok, uint32_t session) {
    if (!nonce_ok) {
        return PROTOCOL_RESULT_BAD_NONCE;
    }
    if (driving(safety)) {
        return PROTOCOL_RESULT_WRONG_STATE;
    }
    if (safety->state == PROTOCOL_STATE_OFF) {
        return PROTOCOL_RESULT_FAULT_LATCHED;
    }
    if (safety->image_check != BOARD_IMAGE_GOOD) {
        return PROTOCOL_RESULT_IMAGE_DAMAGED;
    }
    if (!safety->self_test_ok) {
        return PROTOCOL_RESULT_SELF_TEST_FAILED;
    }
    if (!safety->configured) {
        return PROTOCOL_RESULT_NOT_CONFIGURED;
    }
    if (!safety->homed) {
        return PROTOCOL_RESULT_NOT_HOMED;
    }
    if (safety->open_inputs != 0u) {
        return PROTOCOL_RESULT_INPUT_OPEN;
    }
    if (session == 0u) {
        return PROTOCOL_RESULT_OUT_OF_RANGE;
    }
    safety->state = PROTOCOL_STATE_ARMED;
    safety->session = session;
    safety->armed_tick = safety->tick + 1u;
    safety->fed_tick = safety->tick;
    safety->answered = false;
    safety->request = 0.0f;
    safety->earlier_setpoint = 0.0f;
    drive_reset(&safety->drive);
    return PROTOCOL_RESULT_OK;
}

uint8_t safety_disarm(safety_t *safety, uint32_t session) {
    if (session != 0u && session != safety->session) {
        return PROTOCOL_RESULT_WRONG_SESSION;
    }
    if (safety->state == PROTOCOL_STATE_ARMED) {
        safety_stop(safety, PROTOCOL_FAULT_NONE, 0u);
    } else if (safety->state == PROTOCOL_STATE_OFF) {
        /* Only here: a fault stays latched through braking, or a DISARM on the way would hide it. */
        safety->fault = PROTOCOL_FAULT_NONE;
        safety->state = safety->homed ? PROTOCOL_STATE_IDLE : PROTOCOL_STATE_UNHOMED;
    }
    return PROTOCOL_RESULT_OK;
}

void safety_stop(safety_t *safety, uint8_t reason, uint32_t detail) {
    if (!driving(safety)) {
        return;
    }
    if (safety->state == PROTOCOL_STATE_ARMED) {
        safety->state = PROTOCOL_STATE_BRAKING;
        safety->braking_periods = 0;
        safety->answered = false;
    }
    if (reason != PROTOCOL_FAULT_NONE && safety->fault == PROTOCOL_FAULT_NONE) {
        safety->fault = reason;
        safety->fault_detail = detail;
        safety->fault_tick = safety->tick;
        safety->report = reason;
    }
}

safety_verdict_t safety_offer_command(safety_t *safety, const protocol_command_t *command) {
    if (safety->state != PROTOCOL_STATE_ARMED || safety->mode != PROTOCOL_MODE_HOST ||
        command->session != safety->session) {
        return SAFETY_REFUSED;
    }
    /* Written so that a NaN, which compares false with everything, is refused. */
    if (!(command->action >= -PLANT_ACCELERATION_LIMIT && command->action <= PLANT_ACCELERATION_LIMIT)) {
        return SAFETY_REFUSED;
    }
    if (command->observation_tick != safety->tick || safety->tick + 1u == safety->armed_tick) {
        return SAFETY_STALE;
    }
    if (safety->answered) {
        return SAFETY_REFUSED;
    }
    safety->answer = command->action;
    safety->answered = true;
    safety->fed_tick = command->observation_tick;
    return SAFETY_ACCEPTED;
}

safety_verdict_t safety_offer_heartbeat(safety_t *safety, const protocol_heartbeat_t *heartbeat) {
    if (heartbeat->session == 0u) {
        return SAFETY_ACCEPTED; /* before arming and after disarming: a host that only keeps lock-step going
                                 */
    }
    if (heartbeat->session != safety->session) {
        return SAFETY_REFUSED;
    }
    const uint32_t age = safety->tick - heartbeat->observation_tick;
    const uint32_t fed_age = safety->tick - safety->fed_tick;
    if (safety->state == PROTOCOL_STATE_ARMED && safety->mode != PROTOCOL_MODE_HOST && age < fed_age &&
        age <= safety->watchdog_periods) {
        safety->fed_tick = heartbeat->observation_tick;
    }
    /* The last observation before ARM took effect may be answered late: nothing depended on it. */
    const bool counts = heartbeat->observation_tick - safety->armed_tick < 0x80000000u;
    return age != 0u && counts ? SAFETY_STALE : SAFETY_ACCEPTED;
}

bool safety_wants_policy(const safety_t *safety) {
    return safety->state == PROTOCOL_STATE_ARMED && safety->mode != PROTOCOL_MODE_HOST;
}

void safety_offer_policy(safety_t *safety, float action) {
    /* x - x is zero exactly for finite numbers. */
    if (!(action - action == 0.0f)) {
        safety_stop(safety, PROTOCOL_FAULT_POLICY_NOT_FINITE, 0u);
        return;
    }
    safety->answer = action;
    safety->answered = true;
}

/* Both rail ends referenced and the rod still for PLANT_HOMING_STILL_PERIODS, once; lost with the reference.
 */
static void update_homing(safety_t *safety, const protocol_sensors_t *sensors) {
    const bool referenced = (sensors->flags & PROTOCOL_SENSOR_FLAG_REFERENCED) != 0u;
    if (!referenced) {
        safety->reference_spent = false;
    }
    if (!referenced || safety->reference_spent) {
        safety->homed = false;
        safety->still_periods = 0;
    } else if (!safety->homed) {
        const uint32_t moved = (uint32_t)sensors->rod_count - (uint32_t)safety->still_count;
        if (safety->still_periods == 0u ||
            moved + PLANT_HOMING_STILL_COUNTS > 2u * PLANT_HOMING_STILL_COUNTS) {
            safety->still_count = sensors->rod_count;
            safety->still_periods = 1;
        } else {
            safety->still_periods++;
        }
        safety->homed = safety->still_periods > PLANT_HOMING_STILL_PERIODS;
    }
    if (safety->state == PROTOCOL_STATE_UNHOMED && safety->homed) {
        safety->state = PROTOCOL_STATE_IDLE;
    } else if (safety->state == PROTOCOL_STATE_IDLE && !safety->homed) {
        safety->state = PROTOCOL_STATE_UNHOMED;
    }
}

static void follow(safety_encoder_t *encoder, int32_t count, uint32_t jump_counts) {
    const uint32_t difference = (uint32_t)count - (uint32_t)encoder->count;
    const uint32_t change = difference - encoder->difference;
    encoder->jumped = change > jump_counts && change < 0u - jump_counts;
    encoder->count = count;
    encoder->difference = difference;
}

/* The counts of this period beside what the set-point did in it: it went straight from `earlier_setpoint` to
 * the running one. */
static void update_encoders(safety_t *safety, const protocol_sensors_t *sensors) {
    const float setpoint = safety->drive.velocity_setpoint;
    const float speed = 0.5f * (safety->earlier_setpoint + setpoint);
    const float change = magnitude(setpoint - safety->earlier_setpoint);
    const bool armed = safety->state == PROTOCOL_STATE_ARMED;
    follow(&safety->cart, sensors->cart_count, PLANT_AXIS_JUMP_COUNTS);
    follow(&safety->rod, sensors->rod_count, PLANT_ROD_JUMP_COUNTS);
    if (!armed || safety->cart.difference != 0u) {
        safety->cart.unseen = 0.0f;
    } else if (magnitude(speed) > PLANT_AXIS_DEAD_SPEED) {
        /* With its sign: a cart that is shaken to and fro comes back to the same count. */
        safety->cart.unseen += speed * PLANT_PERIOD;
    }
    if (!armed || safety->rod.difference != 0u) {
        safety->rod.unseen = 0.0f;
    } else if (change > PLANT_ROD_DEAD_CHANGE) {
        safety->rod.unseen += change;
    }
    safety->earlier_setpoint = setpoint;
}

static void check_encoder(safety_t *safety, const safety_encoder_t *encoder, uint32_t name, float frozen) {
    /* A count that stands still all of a sudden is a jump of the speed, but it is frozen. */
    if (magnitude(encoder->unseen) > frozen || (encoder->jumped && encoder->difference == 0u)) {
        safety_stop(safety, PROTOCOL_FAULT_ENCODER_FROZEN, name);
    } else if (encoder->jumped) {
        safety_stop(safety, PROTOCOL_FAULT_ENCODER_JUMP, name);
    } else {
        return;
    }
    safety->reference_spent = true;
}

/* What stops a moving cart. The order is the order of blame when several are true. */
static void check(safety_t *safety, const protocol_sensors_t *sensors, const float observation[5],
                  uint32_t elapsed) {
    if ((sensors->flags & PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP) != 0u) {
        safety_stop(safety, PROTOCOL_FAULT_E_STOP, sensors->flags);
    }
    if (!safety->homed) {
        safety_stop(safety, PROTOCOL_FAULT_HOMING_LOST, sensors->flags);
    }
    if ((sensors->flags & PROTOCOL_SENSOR_FLAG_DRIVE_FAULT) != 0u) {
        safety_stop(safety, PROTOCOL_FAULT_DRIVE_FAULT, sensors->flags);
    }
    if ((sensors->flags & END_SWITCHES) != 0u) {
        safety_stop(safety, PROTOCOL_FAULT_RAIL_END, sensors->flags);
    }
    if (elapsed != 1u) {
        safety_stop(safety, PROTOCOL_FAULT_PERIOD_LOST, elapsed);
    } else {
        check_encoder(safety, &safety->cart, PROTOCOL_ENCODER_CART, PLANT_AXIS_FROZEN);
        check_encoder(safety, &safety->rod, PROTOCOL_ENCODER_ROD, PLANT_ROD_FROZEN);
    }
    if (magnitude(observation[0]) > PLANT_AXIS_LIMIT) {
        safety_stop(safety, PROTOCOL_FAULT_RAIL_END, sensors->flags);
    }
    if (safety->state != PROTOCOL_STATE_ARMED) {
        return;
    }
    if (magnitude(observation[4]) > PLANT_ROD_SPEED_LIMIT) {
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
    return (magnitude(safety->drive.velocity_setpoint) <= REST_SETPOINT &&
            magnitude(observation[1]) <= PLANT_REST_SPEED) ||
           safety->braking_periods >= PLANT_DISARM_DELAY_PERIODS;
}

static void switch_off(safety_t *safety) {
    drive_reset(&safety->drive);
    if (safety->fault != PROTOCOL_FAULT_NONE) {
        safety->state = PROTOCOL_STATE_OFF;
    } else {
        safety->state = safety->homed ? PROTOCOL_STATE_IDLE : PROTOCOL_STATE_UNHOMED;
    }
}

/* With a damaged image the drive is off, whatever the rest of this file decided. It can only have decided
 * otherwise when the damage lies in safety_arm()'s own comparison. */
static void guard_image(safety_t *safety, protocol_actuate_t *actuate) {
    if (safety->image_check == BOARD_IMAGE_GOOD) {
        return;
    }
    if (driving(safety)) {
        safety_stop(safety, PROTOCOL_FAULT_IMAGE_DAMAGED, safety->image_check);
        switch_off(safety);
    }
    memset(actuate, 0, sizeof *actuate); /* enable = PROTOCOL_ENABLE_OFF */
    actuate->tick = safety->tick;
}

void safety_period(safety_t *safety, const protocol_sensors_t *sensors, const float observation[5],
                   protocol_actuate_t *actuate) {
    const uint32_t elapsed = sensors->tick - safety->tick;
    safety->tick = sensors->tick;
    safety->flags = 0;
    memset(actuate, 0, sizeof *actuate); /* enable = PROTOCOL_ENABLE_OFF */
    actuate->tick = sensors->tick;
    safety->open_inputs = sensors->flags & (PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP | END_SWITCHES);
    update_homing(safety, sensors);
    update_encoders(safety, sensors);
    if (driving(safety)) {
        check(safety, sensors, observation, elapsed);
    }
    if (safety->state == PROTOCOL_STATE_BRAKING && at_rest(safety, observation)) {
        switch_off(safety);
    }
    if (safety->state == PROTOCOL_STATE_ARMED) {
        const float request = latch_request(safety);
        actuate->acceleration = drive_latch(&safety->drive, request, observation[0]);
        actuate->enable = PROTOCOL_ENABLE_DRIVE;
        /* Rounding of the set-point is no limit: only a visible difference counts. */
        if (magnitude(actuate->acceleration - request) > 0.001f) {
            safety->flags |= PROTOCOL_OBSERVATION_FLAG_LIMITED;
        }
    } else if (safety->state == PROTOCOL_STATE_BRAKING) {
        safety->braking_periods++;
        actuate->acceleration = drive_latch(&safety->drive, drive_brake(&safety->drive), observation[0]);
        actuate->enable = PROTOCOL_ENABLE_BRAKE;
    }
    actuate->velocity_setpoint = safety->drive.velocity_setpoint;
    guard_image(safety, actuate);
    if (safety->homed) {
        safety->flags |= PROTOCOL_OBSERVATION_FLAG_HOMED;
    }
    if (safety->configured) {
        safety->flags |= PROTOCOL_OBSERVATION_FLAG_CONFIGURED;
    }
    if (safety->self_test_ok) {
        safety->flags |= PROTOCOL_OBSERVATION_FLAG_SELF_TEST_OK;
    }
}
