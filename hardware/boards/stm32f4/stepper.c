/* A stepper driver with step, direction and enable inputs. A timer makes the step pulses; their rate follows
 * the speed every millisecond. */
#include "gpio.h"
#include "motor.h"
#include "pins.h"
#include "speed_ramp.h"

#define SLOWEST_HZ    20u /* below this the motor stands still */
#define CHANNEL_SHIFT (8u * ((PINS_STEP_CHANNEL - 1u) % 2u))

static speed_ramp_t ramp;

static stm32f4_timer_t *timer(void) {
    return STM32F4_TIMER(PINS_STEP_TIMER);
}

static void set_enabled(bool enabled) {
    gpio_write(PINS_ENABLE_LETTER, PINS_ENABLE_PIN, enabled);
}

/* The timer takes prescaler, period and duty over together when a pulse is complete. */
static void set_speed(float speed) {
    const float rate = (speed < 0.0f ? -speed : speed) * PINS_STEPS_PER_UNIT;
    const uint32_t rate_hz = (uint32_t)rate;
    gpio_write(PINS_DIRECTION_LETTER, PINS_DIRECTION_PIN, speed < 0.0f);
    if (rate_hz < SLOWEST_HZ) {
        timer()->CCR[PINS_STEP_CHANNEL - 1u] = 0u; /* no pulses */
        return;
    }
    const uint32_t clocks = PINS_TIMER_HZ / rate_hz;
    const uint32_t divider = clocks / 65536u + 1u;
    const uint32_t pulse = clocks / divider;
    timer()->PSC = divider - 1u;
    timer()->ARR = pulse - 1u;
    timer()->CCR[PINS_STEP_CHANNEL - 1u] = pulse / 2u;
}

void motor_start(void) {
    motor_off(); /* the level first, then the pin becomes an output */
    gpio_mode(PINS_ENABLE_LETTER, PINS_ENABLE_PIN, GPIO_MODE_OUTPUT, 0u);
    gpio_mode(PINS_DIRECTION_LETTER, PINS_DIRECTION_PIN, GPIO_MODE_OUTPUT, 0u);
    gpio_mode(PINS_STEP_LETTER, PINS_STEP_PIN, GPIO_MODE_ALTERNATE, PINS_STEP_ALTERNATE);
    gpio_pull(PINS_FAULT_LETTER, PINS_FAULT_PIN, GPIO_PULL_UP);
    gpio_mode(PINS_FAULT_LETTER, PINS_FAULT_PIN, GPIO_MODE_INPUT, 0u);
    rcc_enable(&STM32F4_RCC->APB1ENR, RCC_APB1ENR_TIMER(PINS_STEP_TIMER));
    timer()->ARR = 0xFFFFu;
    timer()->CCR[PINS_STEP_CHANNEL - 1u] = 0u;
    timer()->CCMR[(PINS_STEP_CHANNEL - 1u) / 2u] = TIMER_CCMR_PWM1 << CHANNEL_SHIFT;
    timer()->CCER = TIMER_CCER_ENABLE(PINS_STEP_CHANNEL);
    timer()->EGR = TIMER_EGR_UG;
    timer()->CR1 = TIMER_CR1_ARPE | TIMER_CR1_CEN;
}

void motor_actuate(const protocol_actuate_t *actuate) {
    if (actuate->enable == PROTOCOL_ENABLE_OFF) {
        motor_off();
        return;
    }
    speed_ramp_actuate(&ramp, actuate);
    set_enabled(true);
}

void motor_millisecond(int32_t axis_count) {
    (void)axis_count; /* a stepper follows */
    set_speed(speed_ramp_millisecond(&ramp));
}

bool motor_enabled(void) {
    return ramp.enabled;
}

void motor_off(void) {
    set_enabled(false);
    speed_ramp_off(&ramp);
}

bool motor_fault(void) {
    return ramp.overdue || !gpio_read(PINS_FAULT_LETTER, PINS_FAULT_PIN); /* open drain, low is a fault */
}
