/* A stepper driver with step, direction and enable inputs. A timer makes the step pulses; their rate follows
 * the speed every millisecond. */
#include "gpio.h"
#include "motor.h"
#include "pins.h"
#include "plant.h"

#define PERIOD_MS     (PLANT_PERIOD_US / 1000)
#define GRACE_MS      (PERIOD_MS / 2)
#define SLOWEST_HZ    20u /* below this the motor stands still */
#define CHANNEL_SHIFT (8u * ((PINS_STEP_CHANNEL - 1u) % 2u))

static struct {
    volatile bool enabled;
    volatile float acceleration; /* of the running period */
    volatile float end_speed;    /* that the period ends with */
    volatile int16_t left_ms;    /* of the running period; negative: overdue */
    float speed;                 /* now; in the interrupt only */
} motor;

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
    STM32F4_RCC->APB1ENR |= RCC_APB1ENR_TIMER(PINS_STEP_TIMER);
    timer()->ARR = 0xFFFFu;
    timer()->CCR[PINS_STEP_CHANNEL - 1u] = 0u;
    timer()->CCMR[(PINS_STEP_CHANNEL - 1u) / 2u] = TIMER_CCMR_PWM1 << CHANNEL_SHIFT;
    timer()->CCER = TIMER_CCER_ENABLE(PINS_STEP_CHANNEL);
    timer()->EGR = TIMER_EGR_UG;
    timer()->CR1 = TIMER_CR1_ARPE | TIMER_CR1_CEN;
}

void motor_actuate(const protocol_actuate_t *actuate) {
    const bool enabled = actuate->enable != PROTOCOL_ENABLE_OFF;
    if (!enabled) {
        motor_off();
        return;
    }
    motor.acceleration = actuate->acceleration;
    motor.end_speed = actuate->velocity_setpoint;
    motor.left_ms = PERIOD_MS;
    motor.enabled = true;
    set_enabled(true);
}

void motor_millisecond(void) {
    const float brake = PLANT_BRAKE_ACCELERATION * 0.001f;
    if (!motor.enabled) {
        motor.speed = 0.0f;
    } else if (motor.left_ms > -GRACE_MS) {
        motor.left_ms--;
        const float left_s = motor.left_ms > 0 ? (float)motor.left_ms * 0.001f : 0.0f;
        motor.speed = motor.end_speed - motor.acceleration * left_s;
    } else if (motor.speed > brake) {
        motor.speed -= brake;
    } else if (motor.speed < -brake) {
        motor.speed += brake;
    } else {
        motor.speed = 0.0f;
    }
    set_speed(motor.speed);
}

void motor_off(void) {
    set_enabled(false);
    motor.enabled = false;
    motor.end_speed = 0.0f;
}

bool motor_fault(void) {
    return !gpio_read(PINS_FAULT_LETTER, PINS_FAULT_PIN); /* open drain, low is a fault */
}
