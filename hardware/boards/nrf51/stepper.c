/* A stepper driver with step, direction and enable inputs, and no encoder behind it: the steps are the
 * position.
 *
 * Timer 1 counts from one step to the next. Comparison 0 clears it, toggles the step pin (GPIOTE) and counts
 * the step in timer 2; comparison 1, a pulse later, toggles the pin back; all over PPI: at any rate the
 * processor has nothing to do with a step. The timer must never come past comparison 1 with the pin low:
 * whatever clears it makes a step.
 *
 * A pin that is toggled keeps a toggle that was lost or came twice: it would rest high, and change direction
 * there. So its level is read every millisecond that has room between two steps, and high is a fault of the
 * drive until the next reset, which is what makes it low.
 */
#include "motor.h"
#include "pin.h"
#include "pins.h"
#include "speed_ramp.h"
#include "step_pace.h"

#define TIMER_HZ       8000000u
#define DIVIDE_BY_2    1u
#define PULSE          (TIMER_HZ / 1000000u * PINS_STEP_PULSE_NS / 1000u) /* clocks, high */
#define MILLISECOND    (TIMER_HZ / 1000u)
#define NEVER          0xFFFFu /* 16 bits of the timer: 8.2 ms */
#define LONGEST        (NEVER - 3u * MILLISECOND)
#define PATIENCE       1000u        /* polls for some microseconds */
#define SETTLED        (PULSE + 8u) /* a microsecond later a pulse can be seen to have ended */
#define LOOK           40u          /* 5 us: longer than reading the pin takes */
#define COMPARE0_CLEAR (1u << 0)
#define GPIOTE_TASK    3u
#define GPIOTE_TOGGLE  (3u << 16)

static struct {
    speed_ramp_t ramp;
    step_pace_t pace;
    uint16_t last; /* of the counter */
    bool inverted; /* step was high where it has to be low */
    int32_t count;
} motor;

static void set_enabled(bool enabled) {
    pin_write(PINS_ENABLE, enabled);
}

/* All steps since the last call had the same direction. */
int32_t motor_count(void) {
    NRF51_TIMER2->CAPTURE[0] = 1u;
    const uint16_t now = (uint16_t)NRF51_TIMER2->CC[0];
    const int32_t steps = (uint16_t)(now - motor.last);
    motor.last = now;
    motor.count += motor.pace.backward ? -steps : steps;
    return motor.count;
}

/* Clocks since the last step. */
static uint32_t passed(void) {
    NRF51_TIMER1->CAPTURE[2] = 1u;
    return NRF51_TIMER1->CC[2];
}

/* No step from here on; the pulse that is running is completed. Where the timer stands still the next step
 * comes within the millisecond that it belongs to, instead of evenly behind the last one. */
static void hold(void) {
    NRF51_TIMER1->CC[0] = NEVER;
    if (passed() > LONGEST) {
        NRF51_TIMER1->STOP = 1u;
    }
}

/* Between two steps, with time to look before the next one comes. */
static void check_level(void) {
    const uint32_t clocks = passed();
    if (clocks > SETTLED && clocks + LOOK < NRF51_TIMER1->CC[0] && pin_read(PINS_STEP)) {
        motor.inverted = true;
    }
}

static uint32_t interval_of(float due, uint32_t passed_clocks) {
    return step_pace_interval(due, passed_clocks, MILLISECOND, 2u * PULSE);
}

static void run(float due) {
    const uint32_t clocks = interval_of(due, passed());
    NRF51_TIMER1->CC[0] = clocks;
    NRF51_TIMER1->START = 1u;
    if (passed() < clocks) {
        return;
    }
    /* Overdue: the comparison will not come, and what it does is done here. The timer stands still meanwhile,
     * so that no other comparison toggles the pin, too. */
    NRF51_TIMER1->STOP = 1u;
    NRF51_GPIOTE->OUT[0] = 1u;
    NRF51_TIMER2->COUNT = 1u;
    NRF51_TIMER1->CLEAR = 1u;
    NRF51_TIMER1->CC[0] = due < 2.0f ? NEVER : interval_of(due - 1.0f, 0u);
    NRF51_TIMER1->START = 1u;
}

/* The direction changes while step is low and no step can come; those of the new direction begin with the
 * next millisecond, which is the driver's set-up time. */
static void reverse(void) {
    step_pace_seen(&motor.pace, motor_count()); /* one may have come just before the hold */
    if (step_pace_due(&motor.pace) <= -1.0f && passed() > PULSE && !pin_read(PINS_STEP)) {
        motor.pace.backward = !motor.pace.backward;
        pin_write(PINS_DIRECTION, motor.pace.backward);
    }
}

static void set_speed(float speed) {
    if (!motor.ramp.enabled) {
        hold();
        step_pace_rest(&motor.pace, motor_count());
        return;
    }
    step_pace_millisecond(&motor.pace, motor_count(), speed * (PINS_STEPS_PER_UNIT * 0.001f));
    if (step_pace_due(&motor.pace) >= 1.0f) {
        run(step_pace_due(&motor.pace));
        return;
    }
    hold();
    if (step_pace_due(&motor.pace) <= -1.0f) {
        reverse();
    }
}

/* Low, beyond the end of a pulse, standing still: only then may comparison 1 toggle the pin. */
static void start_timers(void) {
    NRF51_TIMER1->MODE = 0u;
    NRF51_TIMER1->BITMODE = 0u; /* 16 bits */
    NRF51_TIMER1->PRESCALER = DIVIDE_BY_2;
    NRF51_TIMER1->SHORTS = COMPARE0_CLEAR;
    NRF51_TIMER1->CC[0] = NEVER;
    NRF51_TIMER1->CC[1] = PULSE;
    NRF51_TIMER1->START = 1u;
    for (uint32_t polls = 0; passed() <= PULSE && polls < PATIENCE; polls++) {
    }
    NRF51_TIMER1->STOP = 1u;
    NRF51_TIMER2->MODE = 1u; /* counter */
    NRF51_TIMER2->BITMODE = 0u;
    NRF51_TIMER2->CLEAR = 1u;
    NRF51_TIMER2->START = 1u;
}

static void wire(unsigned channel, const volatile uint32_t *event, const volatile uint32_t *task) {
    NRF51_PPI->CH[channel].EEP = (uint32_t)(uintptr_t)event;
    NRF51_PPI->CH[channel].TEP = (uint32_t)(uintptr_t)task;
    NRF51_PPI->CHENSET = 1u << channel;
}

void motor_start(void) {
    set_enabled(false); /* the level first, then the pin becomes an output */
    pin_mode(PINS_ENABLE, GPIO_OUTPUT);
    pin_write(PINS_DIRECTION, false);
    pin_mode(PINS_DIRECTION, GPIO_OUTPUT);
    pin_write(PINS_STEP, false);
    pin_mode(PINS_STEP, GPIO_OUTPUT_READ);
    pin_mode(PINS_DRIVE_FAULT, GPIO_INPUT_PULL_UP);
    NRF51_GPIOTE->CONFIG[0] = GPIOTE_TASK | PINS_STEP << 8 | GPIOTE_TOGGLE; /* starts low */
    start_timers();
    wire(0u, &NRF51_TIMER1->COMPARE[0], &NRF51_GPIOTE->OUT[0]);
    wire(1u, &NRF51_TIMER1->COMPARE[0], &NRF51_TIMER2->COUNT);
    wire(2u, &NRF51_TIMER1->COMPARE[1], &NRF51_GPIOTE->OUT[0]);
}

void motor_actuate(const protocol_actuate_t *actuate, bool blind) {
    (void)blind; /* steps need no encoder */
    if (actuate->enable == PROTOCOL_ENABLE_OFF) {
        motor_off();
        return;
    }
    speed_ramp_actuate(&motor.ramp, actuate);
    set_enabled(true);
}

void motor_millisecond(int32_t axis_count) {
    (void)axis_count; /* there is no encoder */
    set_speed(speed_ramp_millisecond(&motor.ramp));
    check_level(); /* behind it: what takes time before it comes off the steps */
}

bool motor_enabled(void) {
    return motor.ramp.enabled;
}

void motor_off(void) {
    set_enabled(false);
    NRF51_TIMER1->CC[0] = NEVER;
    speed_ramp_off(&motor.ramp);
}

bool motor_fault(void) {
    return motor.ramp.overdue || motor.inverted || !pin_read(PINS_DRIVE_FAULT); /* low is a fault */
}
