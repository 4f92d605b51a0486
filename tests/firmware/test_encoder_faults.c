/* Every way to stop, followed by an encoder that fails while the axis brakes: the first fault stays the one
 * that is named, and the board hears of the second all the same. An encoder fault that is the only one is
 * told, and none is made up. Aborts with a line that says what is wrong. */
#include "board.h"
#include "plant.h"
#include "safety.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SESSION       5u
#define WATCHDOG      2u
#define ARMED_PERIODS 8u
#define NO_FAULT_YET  (PROTOCOL_FAULT_IMAGE_DAMAGED + 1u) /* DISARM */

static struct {
    safety_t safety;
    protocol_actuate_t actuate;
    protocol_sensors_t sensors;
    float observation[PROTOCOL_BASE_OBSERVATION_SIZE];
    float place; /* of the axis, plant's unit */
    bool frozen; /* the axis encoder is */
} bench;

static void require(bool holds, const char *what, unsigned first) {
    if (!holds) {
        (void)fprintf(stderr, "after fault %u: %s\n", first, what);
        abort();
    }
}

static void period(uint32_t elapsed, int32_t leap) {
    protocol_sensors_t *sensors = &bench.sensors;
    bench.place += bench.safety.drive.velocity_setpoint * PLANT_PERIOD * (float)elapsed;
    sensors->tick += elapsed;
    sensors->rod_count += sensors->tick % 2u == 0u ? 1 : -1;
    if (!bench.frozen) {
        sensors->cart_count = (int32_t)(bench.place / PLANT_AXIS_PER_COUNT) + leap;
    }
    bench.observation[1] = bench.safety.drive.velocity_setpoint;
    safety_period(&bench.safety, sensors, bench.observation, &bench.actuate);
}

static void answer(float action) {
    const protocol_command_t command = {
        .session = SESSION, .observation_tick = bench.sensors.tick, .action = action};
    (void)safety_offer_command(&bench.safety, &command);
}

/* At more than the speed from which nothing stops within a period. */
static void arm_and_run(uint8_t mode) {
    const protocol_config_t config = {.mode = mode, .watchdog_periods = WATCHDOG};
    bench.frozen = false;
    bench.place = 0.0f;
    bench.sensors = (protocol_sensors_t){.flags = PROTOCOL_SENSOR_FLAG_REFERENCED};
    bench.observation[0] = bench.observation[4] = 0.0f;
    safety_start(&bench.safety, true, BOARD_IMAGE_GOOD);
    (void)safety_configure(&bench.safety, &config);
    for (unsigned i = 0; i < PLANT_HOMING_STILL_PERIODS + 2u; i++) {
        period(1u, 0);
    }
    (void)safety_arm(&bench.safety, true, SESSION);
    for (unsigned i = 0; i < ARMED_PERIODS; i++) {
        period(1u, 0);
        if (mode == PROTOCOL_MODE_HOST) {
            answer(PLANT_ACCELERATION_LIMIT);
        } else {
            safety_offer_policy(&bench.safety, PLANT_ACCELERATION_LIMIT);
            bench.safety.fed_tick = bench.sensors.tick;
        }
    }
    require(bench.safety.state == PROTOCOL_STATE_ARMED, "it does not even run", 0u);
    require(safety_troubles(&bench.safety) == 0u, "a trouble that nobody has", 0u);
}

/* One period in which this goes wrong. */
static void stop_by(unsigned first) {
    static const uint8_t flags[] = {
        [PROTOCOL_FAULT_DRIVE_FAULT] = PROTOCOL_SENSOR_FLAG_DRIVE_FAULT,
        [PROTOCOL_FAULT_RAIL_END] = PROTOCOL_SENSOR_FLAG_END_LEFT,
        [PROTOCOL_FAULT_E_STOP] = PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP,
    };
    if (first == PROTOCOL_FAULT_WATCHDOG) {
        for (unsigned i = 0; i < WATCHDOG + 1u; i++) {
            period(1u, 0);
        }
        return;
    }
    if (first == PROTOCOL_FAULT_HOMING_LOST) {
        bench.sensors.flags = 0u;
    } else if (first < sizeof flags) {
        bench.sensors.flags |= flags[first];
    }
    if (first == PROTOCOL_FAULT_POLICY_NOT_FINITE) {
        safety_offer_policy(&bench.safety, NAN);
    } else if (first == NO_FAULT_YET) {
        (void)safety_disarm(&bench.safety, SESSION);
    }
    bench.observation[4] = first == PROTOCOL_FAULT_ROD_TOO_FAST ? 2.0f * PLANT_ROD_SPEED_LIMIT : 0.0f;
    period(first == PROTOCOL_FAULT_PERIOD_LOST ? 2u : 1u, 0);
    bench.sensors.flags |= PROTOCOL_SENSOR_FLAG_REFERENCED;
}

static void fail_behind(unsigned first, bool frozen) {
    const bool end = first == PROTOCOL_FAULT_RAIL_END;
    arm_and_run(first == PROTOCOL_FAULT_POLICY_NOT_FINITE ? PROTOCOL_MODE_DEVICE : PROTOCOL_MODE_HOST);
    stop_by(first);
    period(1u, 0);
    period(1u, 0); /* after a lost period nothing can be compared until now */
    require(bench.safety.state == PROTOCOL_STATE_BRAKING, "it does not brake", first);
    require(bench.safety.fault == (first == NO_FAULT_YET ? PROTOCOL_FAULT_NONE : first),
            "it stopped for another reason", first);
    require(safety_troubles(&bench.safety) == (end ? BOARD_TROUBLE_END : 0u),
            "what came first is no encoder's fault", first);
    bench.frozen = frozen;
    period(1u, frozen ? 0 : 2 * PLANT_AXIS_JUMP_COUNTS);
    require((safety_troubles(&bench.safety) & BOARD_TROUBLE_ENCODER) != 0u, "the encoder's failure is hidden",
            first);
    require(first == NO_FAULT_YET || bench.safety.fault == first, "the first fault is forgotten", first);
    for (unsigned i = 0; i < PLANT_DISARM_DELAY_PERIODS + 2u; i++) {
        period(1u, 0);
        require((safety_troubles(&bench.safety) & BOARD_TROUBLE_ENCODER) != 0u,
                "forgotten before the reference went", first);
    }
    require(bench.safety.state == PROTOCOL_STATE_OFF, "it is not off", first);
    bench.sensors.flags = 0u;
    period(1u, 0);
    require((safety_troubles(&bench.safety) & BOARD_TROUBLE_ENCODER) == 0u, "the reference went: it is over",
            first);
}

int main(void) {
    for (unsigned first = PROTOCOL_FAULT_WATCHDOG; first <= NO_FAULT_YET; first++) {
        if (first == PROTOCOL_FAULT_ENCODER_FROZEN || first == PROTOCOL_FAULT_ENCODER_JUMP ||
            first == PROTOCOL_FAULT_IMAGE_DAMAGED) { /* these two are the fault; this one never brakes */
            continue;
        }
        fail_behind(first, false);
        fail_behind(first, true);
    }
    return 0;
}
