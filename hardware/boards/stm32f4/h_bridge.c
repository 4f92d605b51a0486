/* A direct-current motor behind an H-bridge with PWM, direction and enable inputs. Every millisecond a loop
 * on the axis encoder makes it follow the speed that the safety machine gave.
 */
#include "gpio.h"
#include "motor.h"
#include "pins.h"
#include "plant.h"
#include "speed_ramp.h"

#define CLOCKS_A_PULSE (PINS_TIMER_HZ / PINS_PWM_HZ)
#define NEWEST         0.125f /* share of the newest difference in the measured speed: 8 ms */
#define POSITION_LIMIT (PINS_DUTY_LIMIT / PINS_DUTY_PER_POSITION) /* what a blocked axis may pile up */

static struct {
    speed_ramp_t ramp;
    bool counted; /* `last` is known */
    int32_t last;
    float speed;   /* measured */
    float missing; /* position: the sum of what speed was missing */
} motor;

static stm32f4_timer_t *timer(void) {
    return STM32F4_TIMER(PINS_PWM_TIMER);
}

static float limit(float value, float most) {
    return value > most ? most : (value < -most ? -most : value);
}

static void set_duty(float duty) {
    const float magnitude = duty < 0.0f ? -duty : duty;
    const uint32_t pulse_clocks = CLOCKS_A_PULSE;
    gpio_write(PINS_DIRECTION, duty < 0.0f);
    timer()->CCR[0] = (uint32_t)(magnitude * (float)pulse_clocks);
}

void motor_start(void) {
    motor_off(); /* the level first, then the pin becomes an output */
    gpio_mode(PINS_ENABLE, GPIO_MODE_OUTPUT, 0u);
    gpio_mode(PINS_DIRECTION, GPIO_MODE_OUTPUT, 0u);
    gpio_pull(PINS_FAULT, GPIO_PULL_UP);
    gpio_mode(PINS_FAULT, GPIO_MODE_INPUT, 0u);
    rcc_enable(&STM32F4_RCC->APB1ENR, RCC_APB1ENR_TIMER(PINS_PWM_TIMER));
    timer()->ARR = CLOCKS_A_PULSE - 1u;
    timer()->CCR[0] = 0u;
    timer()->CCMR[0] = TIMER_CCMR_PWM1;
    timer()->CCER = TIMER_CCER_ENABLE(1u);
    timer()->EGR = TIMER_EGR_UG;
    timer()->CR1 = TIMER_CR1_ARPE | TIMER_CR1_CEN;
    gpio_mode(PINS_PWM, GPIO_MODE_ALTERNATE, PINS_PWM_ALTERNATE);
}

void motor_actuate(const protocol_actuate_t *actuate, bool blind) {
    if (actuate->enable == PROTOCOL_ENABLE_OFF || blind) {
        motor_off();
        return;
    }
    speed_ramp_actuate(&motor.ramp, actuate);
    gpio_write(PINS_ENABLE, true);
}

void motor_millisecond(int32_t axis_count) {
    const float wanted = speed_ramp_millisecond(&motor.ramp);
    const float moved = motor.counted ? (float)(axis_count - motor.last) * PLANT_AXIS_PER_COUNT : 0.0f;
    motor.counted = true;
    motor.last = axis_count;
    motor.speed += NEWEST * (moved * 1000.0f - motor.speed);
    if (!motor.ramp.enabled) {
        motor.missing = 0.0f;
        set_duty(0.0f);
        return;
    }
    motor.missing = limit(motor.missing + wanted * 0.001f - moved, POSITION_LIMIT);
    set_duty(limit(PINS_DUTY_PER_SPEED * wanted + PINS_DUTY_PER_ERROR * (wanted - motor.speed) +
                       PINS_DUTY_PER_POSITION * motor.missing,
                   PINS_DUTY_LIMIT));
}

bool motor_enabled(void) {
    return motor.ramp.enabled;
}

void motor_off(void) {
    gpio_write(PINS_ENABLE, false);
    speed_ramp_off(&motor.ramp);
}

bool motor_fault(void) {
    return motor.ramp.overdue || !gpio_read(PINS_FAULT);
}
