#include "safety.h"
#include "board.h"
#include "plant.h"

#include <string.h>

void safety_start(safety_t *safety, bool self_test_ok, uint32_t image_check) {
    memset(safety, 0, sizeof *safety);
    safety->image_check = image_check;
    safety->self_test_ok = self_test_ok;
    drive_reset(&safety->drive);
}

uint8_t safety_configure(safety_t *safety, const protocol_config_t *config) {
    if (safety_drives(safety)) {
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
    if (safety_drives(safety)) {
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
    if (!safety->homing.homed) {
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
    safety->enabled = false;
    safety->end_reached = false;
    counts_start(&safety->counts);
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
        safety->state = safety->homing.homed ? PROTOCOL_STATE_IDLE : PROTOCOL_STATE_UNHOMED;
    }
    return PROTOCOL_RESULT_OK;
}

void safety_stop(safety_t *safety, uint8_t reason, uint32_t detail) {
    if (!safety_drives(safety)) {
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

uint8_t safety_troubles(const safety_t *safety) {
    return (uint8_t)((safety->homing.spent ? BOARD_TROUBLE_ENCODER : 0u) |
                     (safety->end_reached ? BOARD_TROUBLE_END : 0u));
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
