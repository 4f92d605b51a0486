/* The safety machine: decides, every period, whether the drive may move and with what acceleration.
 *
 *   UNHOMED --homed--> IDLE --arm--> ARMED --stop()--> BRAKING --at rest--> IDLE   (disarmed by the host)
 *      ^                 |                                  \--at rest--> OFF    (a fault: stays latched)
 *      \--homing lost----/
 *
 * DISARM clears a fault in OFF only, which then becomes IDLE or UNHOMED; while BRAKING it changes nothing.
 *
 * The drive is enabled in ARMED and BRAKING only. Zero acceleration is never a stop: everything that stops
 * goes through safety_stop(), which brakes the velocity set-point to zero at the brake limit and then
 * disables the drive, at rest or after PLANT_DISARM_DELAY_PERIODS. What stops between ARM and the first
 * boundary does not brake: the drive is still off and stays off.
 *
 * Watchdog, in control periods. In host mode a fresh answer to observation k is a valid COMMAND echoing k
 * that came before tick k + 1; in device and shadow mode a HEARTBEAT of this session not older than the
 * watchdog. One period without an answer repeats the last action (flag HELD); `watchdog_periods` of them
 * stop. Untethered (device mode only) has no watchdog.
 *
 * Inputs are normally closed. One that opens stops (emergency stop, end switches: category 1, braked and then
 * off), and ARM is refused while one is open or the driver reports a fault. A damaged image is never armed,
 * and never drives.
 *
 * Encoders are judged on their raw counts (counts.h) while the drive is enabled (by hand a person may move
 * cart and rod as he likes). The observation of one that froze or jumped drives nothing any more, and the
 * reference is worth nothing: homing needs it to be taken away and given anew, or a reset.
 *
 * safety.c has what the host and the policy ask for, safety_period.c the boundary.
 * Nothing here does input or output: link.c offers what came, main.c asks for what to do.
 */
#ifndef SAFETY_H
#define SAFETY_H

#include "counts.h"
#include "drive.h"
#include "homing.h"
#include "protocol.h"

typedef enum { SAFETY_ACCEPTED, SAFETY_STALE, SAFETY_REFUSED } safety_verdict_t;

typedef struct {
    uint8_t state; /* PROTOCOL_STATE_ */
    uint8_t fault; /* PROTOCOL_FAULT_, latched */
    uint8_t mode;  /* PROTOCOL_MODE_ */
    uint8_t watchdog_periods;
    bool untethered;
    bool configured;
    bool self_test_ok;
    uint8_t open_inputs; /* PROTOCOL_SENSOR_FLAG_ of emergency stop, end switches and the driver's fault */
    /* Of board_image_check(), as a number and not as a verdict: the flipped bit that it found may lie in
     * whatever turns it into one. safety_arm(), guard_image() at the end of safety_period(), and main.c
     * before the drive is touched each compare it by themselves; volatile keeps a compiler from taking one's
     * result for another's. */
    volatile uint32_t image_check;
    uint32_t tick;       /* the period that is running; 0 before the first */
    uint32_t session;    /* of the last ARM; 0: never armed */
    uint32_t armed_tick; /* first period in state ARMED */
    uint32_t fed_tick;   /* newest observation that a valid COMMAND or HEARTBEAT answered */
    bool answered;       /* `answer` holds the action for the next boundary */
    float answer;        /* m/s^2 */
    float request;       /* m/s^2, before the drive limit, of the running period */
    bool enabled;        /* the drive has been, since ARM */
    bool end_reached;    /* since ARM, whatever was blamed first */
    homing_t homing;
    counts_t counts;
    uint16_t braking_periods;
    uint8_t flags;  /* PROTOCOL_OBSERVATION_FLAG_ of the running period */
    uint8_t report; /* PROTOCOL_FAULT_ that waits to be sent */
    uint32_t fault_detail;
    uint32_t fault_tick;
    drive_t drive;
} safety_t;

/* The states in which the drive is enabled. */
static inline bool safety_drives(const safety_t *safety) {
    return safety->state == PROTOCOL_STATE_ARMED || safety->state == PROTOCOL_STATE_BRAKING;
}

/* What board_actuate() has to know beside the message: BOARD_TROUBLE_ bits, each for as long as it is true.
 */
uint8_t safety_troubles(const safety_t *safety);

/* Power-up: disarmed, unhomed, not configured. `self_test_ok`: the policy reproduced its known answers.
 * `image_check`: of board_image_check(). */
void safety_start(safety_t *safety, bool self_test_ok, uint32_t image_check);

/* Requests of the host; each returns a PROTOCOL_RESULT_. `nonce_ok`: the device nonce was the fresh one. */
uint8_t safety_configure(safety_t *safety, const protocol_config_t *config);
uint8_t safety_arm(safety_t *safety, bool nonce_ok, uint32_t session);
uint8_t safety_disarm(safety_t *safety, uint32_t session);

/* An action for the next boundary, from the host. Refused: wrong state, mode, session, second answer, not a
 * number within +-PLANT_ACCELERATION_LIMIT. Stale: answers another observation than the running one. */
safety_verdict_t safety_offer_command(safety_t *safety, const protocol_command_t *command);

/* A sign of life; one of the last `watchdog_periods` feeds the watchdog. Refused: a foreign session. Stale,
 * although it may feed: sees another observation than the running one, from the first ARMED one on. */
safety_verdict_t safety_offer_heartbeat(safety_t *safety, const protocol_heartbeat_t *heartbeat);

/* An action for the next boundary, from the policy on this device. Not finite: stops. */
void safety_offer_policy(safety_t *safety, float action);

/* True when the policy on this device has to answer the running period. */
bool safety_wants_policy(const safety_t *safety);

/* The boundary: checks everything, latches the action, and says what the drive does until the next tick. */
void safety_period(safety_t *safety, const protocol_sensors_t *sensors, const float observation[5],
                   protocol_actuate_t *actuate);

/* The one way to stop. PROTOCOL_FAULT_NONE: the host asked, nothing is latched. */
void safety_stop(safety_t *safety, uint8_t reason, uint32_t detail);

#endif
