/* The firmware: one loop, one function a period.
 *
 * Tick k: read the encoders, observe, check and latch the answer to observation k - 1, actuate, send
 * OBSERVATION k; then, in device and shadow mode, run the policy on observation k, whose action waits for
 * tick k + 1.
 */
#include "board.h"
#include "link.h"
#include "observe.h"
#include "plant.h"

#define POLICY_EXPECTED_FORMAT 1
#include "policy.h"

#if POLICY_PERIOD_US != PLANT_PERIOD_US
#error "policy.h was trained for another control period than hardware/plants: distil it again for this plant"
#endif
#if POLICY_BASE_OBSERVATION_SIZE != PROTOCOL_BASE_OBSERVATION_SIZE || POLICY_ACTION_SIZE != 1
#error "policy.h takes another observation or gives another action than this plant: distil it for this plant"
#endif

#define STATISTICS_TICKS (1000000u / PLANT_PERIOD_US)

typedef struct {
    safety_t safety;
    link_t link;
    observe_t observe;
    policy_state_t policy;
    float current[POLICY_BASE_OBSERVATION_SIZE];
    float previous[POLICY_BASE_OBSERVATION_SIZE];
} firmware_t;

static firmware_t firmware;

static void observe_period(const protocol_sensors_t *sensors) {
    if (sensors->tick == 1u) {
        observe_reset(&firmware.observe, sensors->cart_count, sensors->rod_count);
    }
    memcpy(firmware.previous, firmware.current, sizeof firmware.previous);
    observe_step(&firmware.observe, sensors->cart_count, sensors->rod_count, firmware.current);
    if (sensors->tick == 1u) {
        memcpy(firmware.previous, firmware.current, sizeof firmware.previous);
    }
}

static void report_period(uint32_t time_us, float applied_action) {
    const safety_t *safety = &firmware.safety;
    protocol_observation_t message = {
        .tick = safety->tick,
        .time_us = time_us,
        .applied_action = applied_action,
        .state = safety->state,
        .fault = safety->fault,
        .flags = safety->flags,
    };
    memcpy(message.current, firmware.current, sizeof message.current);
    memcpy(message.previous, firmware.previous, sizeof message.previous);
    link_send_fault(&firmware.link, &firmware.safety);
    /* Before the observation: a host that has read this tick's observation has its statistics, however reads
     * split. */
    if (safety->tick % STATISTICS_TICKS == 0u) {
        link_send_statistics(&firmware.link);
    }
    link_send_observation(&firmware.link, &message);
}

static void run_policy(void) {
    float action[POLICY_ACTION_SIZE];
    const uint32_t start_us = board_time_us();
    policy_step(&firmware.policy, firmware.current, action);
    const uint32_t taken_us = board_time_us() - start_us;
    safety_offer_policy(&firmware.safety, action[0]);
    const protocol_action_t message = {
        .observation_tick = firmware.safety.tick,
        .action = action[0],
        .inference_us = (uint16_t)(taken_us > UINT16_MAX ? UINT16_MAX : taken_us),
    };
    link_send_action(&firmware.link, &message);
}

static void run_period(const protocol_sensors_t *sensors) {
    const uint32_t time_us = board_time_us();
    protocol_actuate_t actuate;
    observe_period(sensors);
    safety_period(&firmware.safety, sensors, firmware.current, &actuate);
    board_actuate(&actuate);
    report_period(time_us, actuate.acceleration);
    if (firmware.safety.tick == firmware.safety.armed_tick) {
        policy_reset(&firmware.policy); /* the first armed observation fills the whole history */
    }
    if (safety_wants_policy(&firmware.safety)) {
        run_policy();
    }
}

void firmware_run(void) {
    const link_identity_t identity = {.policy_digest = policy_digest, .history = POLICY_HISTORY};
    link_start(&firmware.link, &identity);
    safety_start(&firmware.safety, policy_self_test() == 0);
    policy_reset(&firmware.policy);
    for (;;) {
        protocol_sensors_t sensors;
        board_wait();
        link_poll(&firmware.link, &firmware.safety);
        if (board_sensors(&sensors)) {
            run_period(&sensors);
        }
    }
}
