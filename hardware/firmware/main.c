/* The firmware: one loop, one function a period.
 *
 * Tick k: read the encoders, observe, check and latch the answer to observation k - 1, actuate, send
 * OBSERVATION k and TIMING k; then, in device and shadow mode, run the policy on observation k, whose action
 * waits for tick k + 1.
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

/* What TIMING reports; times of board_time_us() unless they say stopwatch. */
typedef struct {
    uint32_t sampled_us;           /* when the newest observation was taken */
    uint32_t sampled_stopwatch_us; /* the same moment */
    bool acting;                   /* the applied action answers an observation ... */
    uint32_t answered_us;          /* ... that was taken then */
    uint16_t inference_us;         /* of the last policy run */
} timing_t;

typedef struct {
    safety_t safety;
    link_t link;
    observe_t observe;
    policy_state_t policy;
    timing_t timing;
    bool observing;
    float current[POLICY_BASE_OBSERVATION_SIZE];
    float previous[POLICY_BASE_OBSERVATION_SIZE];
} firmware_t;

static firmware_t firmware;

static void observe_period(const protocol_sensors_t *sensors) {
    const bool first = !firmware.observing; /* after a reset the plant's ticks may go on where they were */
    firmware.observing = true;
    if (first) {
        observe_reset(&firmware.observe, sensors->cart_count, sensors->rod_count);
    }
    memcpy(firmware.previous, firmware.current, sizeof firmware.previous);
    observe_step(&firmware.observe, sensors->cart_count, sensors->rod_count, firmware.current);
    if (first) {
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

/* Which observation the action that is applied now answers; an action that is held goes on ageing. */
static void update_action_age(void) {
    const safety_t *safety = &firmware.safety;
    if (safety->state != PROTOCOL_STATE_ARMED || safety->tick == safety->armed_tick) {
        firmware.timing.acting = false;
    } else if ((safety->flags & PROTOCOL_OBSERVATION_FLAG_HELD) == 0u) {
        firmware.timing.acting = true;
        firmware.timing.answered_us = firmware.timing.sampled_us; /* still of the period before */
    }
}

static void report_timing(uint32_t actuated_us) {
    const timing_t *timing = &firmware.timing;
    const link_t *link = &firmware.link;
    const protocol_timing_t message = {
        .tick = firmware.safety.tick,
        .action_age_us = timing->acting ? actuated_us - timing->answered_us : PROTOCOL_NO_TIME_US,
        .response_us =
            link->answered ? link->answered_us - timing->sampled_stopwatch_us : PROTOCOL_NO_TIME_US,
        .inference_us = firmware.safety.mode == PROTOCOL_MODE_HOST ? 0u : timing->inference_us,
    };
    link_send_timing(&firmware.link, &message);
}

static void run_policy(void) {
    float action[POLICY_ACTION_SIZE];
    const uint32_t start_us = board_stopwatch_us();
    policy_step(&firmware.policy, firmware.current, action);
    const uint32_t taken_us = board_stopwatch_us() - start_us;
    firmware.timing.inference_us = (uint16_t)(taken_us > UINT16_MAX ? UINT16_MAX : taken_us);
    safety_offer_policy(&firmware.safety, action[0]);
    const protocol_action_t message = {.observation_tick = firmware.safety.tick, .action = action[0]};
    link_send_action(&firmware.link, &message);
}

static void run_period(const protocol_sensors_t *sensors) {
    const uint32_t time_us = sensors->time_us;
    const uint32_t late_us = board_time_us() - time_us;
    const uint32_t stopwatch_us = board_stopwatch_us() - late_us;
    protocol_actuate_t actuate;
    observe_period(sensors);
    safety_period(&firmware.safety, sensors, firmware.current, &actuate);
    /* Beside the two checks of the safety machine: a damaged image does not get near the drive, which is off
     * by hardware default; the damage may lie in the driver. */
    if (firmware.safety.image_check == BOARD_IMAGE_GOOD) {
        board_actuate(&actuate, safety_troubles(&firmware.safety));
    }
    const uint32_t actuated_us = board_time_us();
    update_action_age();
    report_period(time_us, actuate.acceleration);
    report_timing(actuated_us);
    firmware.timing.sampled_us = time_us;
    firmware.timing.sampled_stopwatch_us = stopwatch_us;
    firmware.link.answered = false;
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
    safety_start(&firmware.safety, policy_self_test() == 0, board_image_check());
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
