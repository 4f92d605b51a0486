/* A stepper driver with step, direction and enable inputs. A timer makes the step pulses, and another one
 * counts them: at any rate the processor has nothing to do with a step. Their interval follows the speed
 * every millisecond.
 */
#include "gpio.h"
#include "motor.h"
#include "pins.h"
#include "speed_ramp.h"
#include "step_timer.h"

static struct {
    speed_ramp_t ramp;
    step_pace_t pace;
    uint16_t last; /* of the counter */
    int32_t count;
} motor;

static stm32f4_timer_t *counter(void) {
    return STM32F4_TIMER(PINS_COUNT_TIMER);
}

static void set_enabled(bool enabled) {
    gpio_write(PINS_ENABLE_LETTER, PINS_ENABLE_PIN, enabled);
}

/* Steps since the start, with their sign. All that came since the last call had the same direction. */
static int32_t count_steps(void) {
    const uint16_t now = (uint16_t)counter()->CNT;
    const int32_t steps = (uint16_t)(now - motor.last);
    motor.last = now;
    motor.count += motor.pace.backward ? -steps : steps;
    return motor.count;
}

/* True: step is low and stays low, and the direction has changed. */
static bool reverse(void) {
    step_pace_seen(&motor.pace, count_steps()); /* one may have come just before the hold */
    if (step_pace_due(&motor.pace) > -1.0f || step_timer()->CNT < STEP_TIMER_PULSE) {
        return false; /* the next millisecond will do */
    }
    motor.pace.backward = !motor.pace.backward;
    gpio_write(PINS_DIRECTION_LETTER, PINS_DIRECTION_PIN, motor.pace.backward);
    step_timer()->CNT = STEP_TIMER_PULSE; /* as if a pulse had just ended: the driver's set-up time */
    return true;
}

static void set_speed(float speed) {
    if (!motor.ramp.enabled) {
        step_timer_hold();
        step_pace_rest(&motor.pace, count_steps());
        return;
    }
    step_pace_millisecond(&motor.pace, count_steps(), speed * (PINS_STEPS_PER_UNIT * 0.001f));
    if (step_pace_due(&motor.pace) < 1.0f) {
        step_timer_hold();
        if (step_pace_due(&motor.pace) > -1.0f || !reverse()) {
            return;
        }
    }
    (void)step_timer_run(step_pace_due(&motor.pace));
}

/* Counting from the end of a pulse on: step is low from the moment it becomes an output. */
static void start_timers(void) {
    rcc_enable(&STM32F4_RCC->APB1ENR,
               RCC_APB1ENR_TIMER(PINS_STEP_TIMER) | RCC_APB1ENR_TIMER(PINS_COUNT_TIMER));
    step_timer()->ARR = STEP_TIMER_NEVER;
    step_timer()->CNT = STEP_TIMER_PULSE;
    step_timer()->CCR[2] = STEP_TIMER_PULSE;
    step_timer()->CCMR[1] = TIMER_CCMR_PWM1_DIRECT;
    step_timer()->CR2 = TIMER_CR2_OC3REF;
    step_timer()->CCER = TIMER_CCER_ENABLE(3u);
    counter()->ARR = 0xFFFFu;
    counter()->SMCR = TIMER_SMCR_COUNT(PINS_COUNT_INPUT);
    counter()->CR1 = TIMER_CR1_CEN;
    step_timer()->CR1 = TIMER_CR1_CEN;
}

void motor_start(void) {
    set_enabled(false); /* the level first, then the pin becomes an output */
    gpio_mode(PINS_ENABLE_LETTER, PINS_ENABLE_PIN, GPIO_MODE_OUTPUT, 0u);
    gpio_mode(PINS_DIRECTION_LETTER, PINS_DIRECTION_PIN, GPIO_MODE_OUTPUT, 0u);
    gpio_pull(PINS_FAULT_LETTER, PINS_FAULT_PIN, GPIO_PULL_UP);
    gpio_mode(PINS_FAULT_LETTER, PINS_FAULT_PIN, GPIO_MODE_INPUT, 0u);
    start_timers();
    gpio_mode(PINS_STEP_LETTER, PINS_STEP_PIN, GPIO_MODE_ALTERNATE, PINS_STEP_ALTERNATE);
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
    (void)axis_count; /* a stepper follows */
    set_speed(speed_ramp_millisecond(&motor.ramp));
}

bool motor_enabled(void) {
    return motor.ramp.enabled;
}

void motor_off(void) {
    set_enabled(false);
    step_timer_hold();
    speed_ramp_off(&motor.ramp);
}

bool motor_fault(void) {
    return motor.ramp.overdue ||
           !gpio_read(PINS_FAULT_LETTER, PINS_FAULT_PIN); /* open drain, low is a fault */
}
