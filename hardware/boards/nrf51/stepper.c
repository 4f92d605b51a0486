/* A stepper driver with step, direction and enable inputs, and no encoder behind it: the steps are the
 * position.
 *
 * Timer 1 compares, which toggles the step pin (GPIOTE) and counts the edge in timer 2, both over PPI: at any
 * rate the processor has nothing to do with a step. Half of the edges rise, and the driver steps on those.
 */
#include "motor.h"
#include "pin.h"
#include "pins.h"
#include "speed_ramp.h"

#define TIMER_HZ       8000000u
#define DIVIDE_BY_2    1u
#define SLOWEST_HZ     62u /* edges at 123 Hz: 16 bits of the timer; below this the motor stands still */
#define COMPARE0_CLEAR (1u << 0)
#define GPIOTE_TASK    3u
#define GPIOTE_TOGGLE  (3u << 16)

static struct {
    speed_ramp_t ramp;
    bool running, backward;
    uint16_t last;  /* of the counter */
    uint32_t edges; /* since the start */
    int32_t count;
} motor;

static void set_enabled(bool enabled) {
    pin_write(PINS_ENABLE, enabled);
}

static void stop_steps(void) {
    NRF51_TIMER1->STOP = 1u;
    motor.running = false;
}

/* The pin was low at first, so of E edges (E + 1) / 2 have risen. */
int32_t motor_count(void) {
    NRF51_TIMER2->CAPTURE[0] = 1u;
    const uint16_t now = (uint16_t)NRF51_TIMER2->CC[0];
    const uint32_t before = (motor.edges + 1u) / 2u;
    motor.edges += (uint16_t)(now - motor.last);
    motor.last = now;
    const int32_t steps = (int32_t)((motor.edges + 1u) / 2u - before);
    motor.count += motor.backward ? -steps : steps;
    return motor.count;
}

static void set_speed(float speed) {
    const float rate = (speed < 0.0f ? -speed : speed) * PINS_STEPS_PER_UNIT;
    const uint32_t rate_hz = (uint32_t)rate;
    if (rate_hz < SLOWEST_HZ) {
        stop_steps();
        return;
    }
    const uint32_t clocks = TIMER_HZ / rate_hz / 2u;
    if (motor.backward != (speed < 0.0f)) {
        stop_steps();
        (void)motor_count(); /* with the direction that they had */
        motor.backward = speed < 0.0f;
        pin_write(PINS_DIRECTION, motor.backward);
    }
    NRF51_TIMER1->CC[0] = clocks;
    NRF51_TIMER1->CAPTURE[1] = 1u;
    if (!motor.running || NRF51_TIMER1->CC[1] >= clocks) {
        NRF51_TIMER1->CLEAR = 1u; /* it would run to its end for a comparison that it has passed */
    }
    NRF51_TIMER1->START = 1u;
    motor.running = true;
}

void motor_start(void) {
    motor_off(); /* the level first, then the pin becomes an output */
    pin_mode(PINS_ENABLE, GPIO_OUTPUT);
    pin_write(PINS_DIRECTION, false);
    pin_mode(PINS_DIRECTION, GPIO_OUTPUT);
    pin_write(PINS_STEP, false);
    pin_mode(PINS_STEP, GPIO_OUTPUT);
    pin_mode(PINS_DRIVE_FAULT, GPIO_INPUT_PULL_UP);
    NRF51_GPIOTE->CONFIG[0] = GPIOTE_TASK | PINS_STEP << 8 | GPIOTE_TOGGLE; /* starts low */
    NRF51_TIMER1->MODE = 0u;
    NRF51_TIMER1->BITMODE = 0u; /* 16 bits */
    NRF51_TIMER1->PRESCALER = DIVIDE_BY_2;
    NRF51_TIMER1->SHORTS = COMPARE0_CLEAR;
    NRF51_TIMER2->MODE = 1u; /* counter */
    NRF51_TIMER2->BITMODE = 0u;
    NRF51_TIMER2->CLEAR = 1u;
    NRF51_TIMER2->START = 1u;
    NRF51_PPI->CH[0].EEP = (uint32_t)(uintptr_t)&NRF51_TIMER1->COMPARE[0];
    NRF51_PPI->CH[0].TEP = (uint32_t)(uintptr_t)&NRF51_GPIOTE->OUT[0];
    NRF51_PPI->CH[1].EEP = (uint32_t)(uintptr_t)&NRF51_TIMER1->COMPARE[0];
    NRF51_PPI->CH[1].TEP = (uint32_t)(uintptr_t)&NRF51_TIMER2->COUNT;
    NRF51_PPI->CHENSET = 3u;
}

void motor_actuate(const protocol_actuate_t *actuate) {
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
}

bool motor_enabled(void) {
    return motor.ramp.enabled;
}

void motor_off(void) {
    set_enabled(false);
    stop_steps();
    speed_ramp_off(&motor.ramp);
}

bool motor_fault(void) {
    return motor.ramp.overdue || !pin_read(PINS_DRIVE_FAULT); /* open drain, low is a fault */
}
