#include "safety_rules.h"
#include "board.h"
#include "plant.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDING 1e-3f /* m/s^2 and m/s */
#define STOPPING                                                                                             \
    (PROTOCOL_SENSOR_FLAG_END_LEFT | PROTOCOL_SENSOR_FLAG_END_RIGHT | PROTOCOL_SENSOR_FLAG_DRIVE_FAULT |     \
     PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP)

void rules_require(bool holds, const char *rule) {
    if (!holds) {
        (void)fprintf(stderr, "violated: %s\n", rule);
        abort();
    }
}

void rules_start(safety_rules_t *rules, bool never) {
    memset(rules, 0, sizeof *rules);
    rules->never = never;
}

void rules_nonce(safety_rules_t *rules, uint32_t nonce) {
    rules->nonce = nonce;
    rules->nonce_fresh = true;
}

static bool drive_is_off(const safety_rules_t *rules) {
    return !rules->armed && rules->actuate.enable == PROTOCOL_ENABLE_OFF;
}

static bool may_configure(const safety_rules_t *rules, const protocol_config_t *config) {
    return rules->nonce_fresh && config->device_nonce == rules->nonce && drive_is_off(rules) &&
           config->mode <= PROTOCOL_MODE_SHADOW && config->watchdog_periods >= 1u &&
           config->watchdog_periods <= PROTOCOL_MAXIMUM_WATCHDOG_PERIODS &&
           (config->untethered == 0u || (config->untethered == 1u && config->mode == PROTOCOL_MODE_DEVICE));
}

static bool may_arm(const safety_rules_t *rules, const protocol_arm_t *arm) {
    return !rules->never && rules->nonce_fresh && arm->device_nonce == rules->nonce && rules->configured &&
           !rules->latched && drive_is_off(rules) && (rules->sensors.flags & STOPPING) == 0u &&
           rules->referenced_periods > PLANT_HOMING_STILL_PERIODS &&
           arm->device_nonce != arm->host_nonce; /* a session of 0 is none */
}

static bool may_answer(const safety_rules_t *rules, const protocol_command_t *command) {
    return rules->armed && rules->config.mode == PROTOCOL_MODE_HOST && command->session == rules->session &&
           command->observation_tick == rules->sensors.tick && rules->fed_tick != rules->sensors.tick &&
           command->action >= -PLANT_ACCELERATION_LIMIT && command->action <= PLANT_ACCELERATION_LIMIT;
}

static bool feed(safety_rules_t *rules, const protocol_heartbeat_t *heartbeat) {
    const uint32_t age = rules->sensors.tick - heartbeat->observation_tick;
    if (rules->armed && rules->config.mode != PROTOCOL_MODE_HOST && heartbeat->session == rules->session &&
        age <= rules->config.watchdog_periods && age < rules->sensors.tick - rules->fed_tick) {
        rules->fed_tick = heartbeat->observation_tick;
        return age == 0u;
    }
    return false;
}

void rules_receive(safety_rules_t *rules, const uint8_t *body, size_t size) {
    protocol_config_t config;
    protocol_arm_t arm;
    protocol_command_t command;
    protocol_heartbeat_t heartbeat;
    rules->arm_deserved = rules->config_deserved = rules->answer_deserved = false;
    if (protocol_unpack_config(body, size, &config)) {
        rules->config_deserved = may_configure(rules, &config);
        rules->offered_config = config;
    } else if (protocol_unpack_arm(body, size, &arm)) {
        rules->arm_deserved = may_arm(rules, &arm);
        if (arm.device_nonce == rules->nonce) {
            rules->nonce_fresh = false;
        }
        rules->offered_session = arm.device_nonce ^ arm.host_nonce;
    } else if (protocol_unpack_command(body, size, &command)) {
        rules->answer_deserved = may_answer(rules, &command);
    } else if (protocol_unpack_heartbeat(body, size, &heartbeat)) {
        rules->answer_deserved = feed(rules, &heartbeat);
    }
}

void rules_received(safety_rules_t *rules, bool answered) {
    rules_require(!answered || rules->answer_deserved,
                  "an answer is of the armed session, for the running tick, the first, of its mode's kind");
    if (answered) {
        rules->fed_tick = rules->sensors.tick;
    }
}

static void acknowledged(safety_rules_t *rules, const protocol_acknowledge_t *answer) {
    if (answer->result != PROTOCOL_RESULT_OK) {
        return;
    }
    if (answer->request_type == PROTOCOL_CONFIG_TYPE) {
        rules_require(rules->config_deserved, "CONFIG needs the nonce, the drive off and values in range");
        rules->config = rules->offered_config;
        rules->configured = true;
    } else if (answer->request_type == PROTOCOL_ARM_TYPE) {
        rules_require(rules->arm_deserved,
                      "ARM needs an unused nonce, CONFIG, homing, inputs closed, no fault, the drive off");
        rules->armed = true;
        rules->end_reached = false;
        rules->session = rules->offered_session;
        rules->fed_tick = rules->sensors.tick;
    } else {
        rules->armed = false;
        if (rules->actuate.enable == PROTOCOL_ENABLE_OFF) {
            rules->latched = false;
        }
    }
}

void rules_sent(safety_rules_t *rules, const uint8_t *body, size_t size) {
    protocol_acknowledge_t answer;
    protocol_fault_report_t fault;
    rules_require((protocol_type(body) & 0xC0u) == 0x40u, "a device sends what devices send");
    if (protocol_unpack_acknowledge(body, size, &answer)) {
        acknowledged(rules, &answer);
    } else if (protocol_unpack_fault_report(body, size, &fault)) {
        rules_require(fault.reason != PROTOCOL_FAULT_NONE, "a fault has a name");
        rules->latched = true;
        rules->armed = false;
    }
}

static void check_enabled(const safety_rules_t *rules, const protocol_sensors_t *sensors,
                          const protocol_actuate_t *actuate, uint32_t elapsed) {
    const uint32_t missed = sensors->tick - 1u - rules->fed_tick;
    rules_require(!rules->never, "no drive with a damaged image or a failed self-test");
    if (actuate->enable == PROTOCOL_ENABLE_BRAKE) {
        rules_require(rules->actuate.enable != PROTOCOL_ENABLE_OFF, "what does not drive does not brake");
        rules_require(rules->braking_periods <= PLANT_DISARM_DELAY_PERIODS, "braking ends");
        return;
    }
    rules_require(actuate->enable == PROTOCOL_ENABLE_DRIVE, "the drive is off, driven or braking");
    rules_require(rules->armed, "no drive while disarmed");
    rules_require((sensors->flags & STOPPING) == 0u, "no drive with an input open or a drive fault");
    rules_require((sensors->flags & PROTOCOL_SENSOR_FLAG_REFERENCED) != 0u, "no drive without a reference");
    rules_require(elapsed == 1u, "no drive over a lost period");
    rules_require(rules->config.untethered == 1u || missed < rules->config.watchdog_periods,
                  "no drive when nobody answers");
}

static void check_limits(const safety_rules_t *rules, const protocol_actuate_t *actuate) {
    const float before = rules->actuate.velocity_setpoint;
    const float after = actuate->velocity_setpoint;
    rules_require(actuate->acceleration >= -PLANT_ACCELERATION_LIMIT &&
                      actuate->acceleration <= PLANT_ACCELERATION_LIMIT,
                  "acceleration within its limit");
    rules_require(after >= -PLANT_SPEED_LIMIT - ROUNDING && after <= PLANT_SPEED_LIMIT + ROUNDING,
                  "speed within its limit");
    if (actuate->enable == PROTOCOL_ENABLE_OFF) {
        rules_require(actuate->acceleration <= 0.0f && actuate->acceleration >= 0.0f && after <= 0.0f &&
                          after >= 0.0f,
                      "nothing asked of a drive that is off");
        return;
    }
    const float expected = before + actuate->acceleration * PLANT_PERIOD;
    rules_require(after - expected <= ROUNDING && expected - after <= ROUNDING,
                  "the set-point is the integral of the acceleration");
    if (actuate->enable == PROTOCOL_ENABLE_BRAKE) {
        rules_require(after * after <= before * before + ROUNDING, "braking slows down");
    }
}

static bool leapt(uint32_t moved, uint32_t moved_before, uint32_t counts) {
    const uint32_t change = moved - moved_before;
    return change > counts && change < 0u - counts;
}

/* Whatever was blamed first: a motor that is held by an encoder must not be braked with one that failed. */
static void check_troubles(safety_rules_t *rules, const protocol_sensors_t *sensors, uint32_t elapsed,
                           uint8_t troubles) {
    const bool driven = rules->actuate.enable != PROTOCOL_ENABLE_OFF;
    const uint32_t cart_moved = (uint32_t)sensors->cart_count - (uint32_t)rules->sensors.cart_count;
    const uint32_t rod_moved = (uint32_t)sensors->rod_count - (uint32_t)rules->sensors.rod_count;
    if ((sensors->flags & PROTOCOL_SENSOR_FLAG_REFERENCED) == 0u) {
        rules->encoder_failed = false;
    }
    if (driven && rules->whole && elapsed == 1u &&
        (leapt(cart_moved, rules->cart_moved, PLANT_AXIS_JUMP_COUNTS) ||
         leapt(rod_moved, rules->rod_moved, PLANT_ROD_JUMP_COUNTS))) {
        rules->encoder_failed = true;
    }
    if (driven && (sensors->flags & (PROTOCOL_SENSOR_FLAG_END_LEFT | PROTOCOL_SENSOR_FLAG_END_RIGHT)) != 0u) {
        rules->end_reached = true;
    }
    rules_require(!rules->encoder_failed || (troubles & BOARD_TROUBLE_ENCODER) != 0u || rules->never,
                  "the board hears of an encoder that failed, after any other fault, too");
    rules_require(!rules->end_reached || (troubles & BOARD_TROUBLE_END) != 0u || rules->never,
                  "the board hears of an end that was reached, after any other fault, too");
    rules->cart_moved = cart_moved;
    rules->rod_moved = rod_moved;
    rules->whole = elapsed == 1u;
}

void rules_period(safety_rules_t *rules, const protocol_sensors_t *sensors, const protocol_actuate_t *actuate,
                  uint8_t troubles) {
    const uint32_t elapsed = sensors->tick - rules->sensors.tick;
    const bool referenced = (sensors->flags & PROTOCOL_SENSOR_FLAG_REFERENCED) != 0u;
    const bool braking = actuate->enable == PROTOCOL_ENABLE_BRAKE;
    rules->referenced_periods = referenced ? rules->referenced_periods + 1u : 0u;
    rules->braking_periods = braking ? rules->braking_periods + 1u : 0u;
    if (actuate->enable != PROTOCOL_ENABLE_OFF) {
        check_enabled(rules, sensors, actuate, elapsed);
    }
    check_limits(rules, actuate);
    check_troubles(rules, sensors, elapsed, troubles);
    rules->armed = rules->armed && actuate->enable == PROTOCOL_ENABLE_DRIVE; /* what stopped needs an ARM */
    rules->sensors = *sensors;
    rules->actuate = *actuate;
}
