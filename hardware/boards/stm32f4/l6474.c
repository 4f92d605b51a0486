/* The L6474: a stepper driver that is configured over SPI and makes a microstep at every rising edge of its
 * step clock. A timer's interrupts make the pulses and count them: the count is the position of an axis
 * without an encoder.
 *
 * Off is the STBY/RESET input low, which no message can be lost on and which is what a chip in reset leaves
 * behind when the input is pulled down. It makes the driver forget its configuration, so each time it is
 * enabled it is woken, then configured, read back and enabled two milliseconds later. Data sheet:
 * DocID022529.
 */
#include "cortex_m.h"
#include "gpio.h"
#include "motor.h"
#include "pins.h"
#include "speed_ramp.h"
#include "step_timer.h"

#define SPI_ALTERNATE 5u
#define PATIENCE      10000u /* polls for a byte that takes 3 us */
#define WAKING_MS     1u     /* whole ones: logic and charge pump need 0.7 ms */

#define SET(parameter)      (parameter)
#define GET(parameter)      (0x20u | (parameter))
#define COMMAND_ENABLE      0xB8u
#define COMMAND_GET_STATUS  0xD0u
#define PARAMETER_TVAL      0x09u
#define PARAMETER_OCD       0x13u
#define PARAMETER_STEP_MODE 0x16u
#define PARAMETER_ALARMS    0x17u

#define STEP_MODE_16 0x8Cu /* 16 microsteps a step; the SYNC output is not used */
#define ALARMS                                                                                               \
    0x8Fu /* overcurrent, overheating, getting hot, undervoltage, a command that was not obeyed              \
           */

/* Bits of STATUS that are low when they report. */
#define STATUS_ALARMS (0x1000u | 0x0800u | 0x0200u) /* overcurrent, thermal shutdown, undervoltage */

static struct {
    speed_ramp_t ramp;
    step_pace_t pace;
    enum { MOTOR_OFF, MOTOR_WAKING, MOTOR_ON } state;
    unsigned waking_ms;
    bool failed; /* it did not answer as it should have */
    bool high;   /* level of the step clock */
    volatile int32_t count;
} motor;

static uint8_t exchange(uint8_t byte) {
    uint32_t polls = 0;
    gpio_write(PINS_SELECT, false);
    STM32F4_SPI1->DR = byte;
    while ((STM32F4_SPI1->SR & SPI_SR_RXNE) == 0u && polls < PATIENCE) {
        polls++;
    }
    const uint8_t answer = (uint8_t)STM32F4_SPI1->DR;
    gpio_write(PINS_SELECT, true); /* after every byte: that is what the driver takes it at */
    for (polls = 0; polls < PINS_CORE_HZ / 1000000u; polls++) {
        __asm volatile("nop"); /* 0.8 us between two bytes */
    }
    return answer;
}

static void set(uint8_t parameter, uint8_t value) {
    (void)exchange(SET(parameter));
    (void)exchange(value);
}

static uint8_t get(uint8_t parameter) {
    (void)exchange(GET(parameter));
    return exchange(0u);
}

static bool configure(void) {
    static const struct {
        uint8_t parameter, value, mask; /* of the bits that it must read back */
    } settings[] = {
        {PARAMETER_STEP_MODE, STEP_MODE_16, 0x07u},
        {PARAMETER_TVAL, (uint8_t)(PINS_CURRENT_MA * 100u / 3125u - 1u), 0x7Fu},
        {PARAMETER_OCD, (uint8_t)(PINS_OVERCURRENT_MA / 375u - 1u), 0x0Fu},
        {PARAMETER_ALARMS, ALARMS, 0xFFu},
    };
    bool same = true;
    for (unsigned i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        set(settings[i].parameter, settings[i].value);
        const unsigned wrong = (unsigned)get(settings[i].parameter) ^ settings[i].value;
        same = (wrong & settings[i].mask) == 0u && same;
    }
    /* The first reading clears what waking up left: the second must have no alarm. */
    uint32_t status = 0;
    for (unsigned i = 0; i < 2u; i++) {
        (void)exchange(COMMAND_GET_STATUS);
        const uint32_t high = exchange(0u);
        status = high << 8 | exchange(0u);
    }
    return same && (status & STATUS_ALARMS) == STATUS_ALARMS;
}

static void set_step(bool high) {
    motor.high = high;
    gpio_write(PINS_STEP, high);
}

static void step(void) {
    if (motor.high) {
        return; /* its pulse should have ended long ago: the step stays missing and is made later */
    }
    set_step(true);
    motor.count += motor.pace.backward ? -1 : 1;
    step_timer()->CCR[0] = step_timer()->CNT + STEP_TIMER_PULSE; /* as wide when the interrupt was late */
    step_timer()->SR = ~TIMER_SR_CC1IF;                          /* of a comparison before this one */
}

/* Also called when nothing is due: the millisecond takes what waits behind it. */
void step_interrupt(void) {
    const uint32_t due = step_timer()->SR & (TIMER_SR_UIF | TIMER_SR_CC1IF);
    step_timer()->SR = ~due;
    if ((due & TIMER_SR_CC1IF) != 0u) {
        set_step(false);
    }
    if ((due & TIMER_SR_UIF) != 0u) {
        step();
    }
}

/* True: step is low and stays low, and the direction has changed. */
static bool reverse(void) {
    step_interrupt();
    step_pace_seen(&motor.pace, motor.count); /* one may have come just before the hold */
    if (step_pace_due(&motor.pace) > -1.0f || motor.high) {
        return false; /* the next millisecond will do */
    }
    motor.pace.backward = !motor.pace.backward;
    gpio_write(PINS_DIRECTION, motor.pace.backward);
    step_timer()->CNT = STEP_TIMER_PULSE; /* as if a pulse had just ended: the driver's set-up time */
    return true;
}

static void set_speed(float speed) {
    step_interrupt();
    step_pace_millisecond(&motor.pace, motor.count, speed * (PINS_STEPS_PER_UNIT * 0.001f));
    if (step_pace_due(&motor.pace) < 1.0f) {
        step_timer_hold();
        if (step_pace_due(&motor.pace) > -1.0f || !reverse()) {
            return;
        }
    }
    if (step_timer_run(step_pace_due(&motor.pace))) {
        step();
    }
}

static void output_start(char letter, unsigned pin, bool level) {
    gpio_write(letter, pin, level); /* the level first, then the pin becomes an output */
    gpio_mode(letter, pin, GPIO_MODE_OUTPUT, 0u);
}

void motor_start(void) {
    output_start(PINS_STANDBY, false);
    output_start(PINS_SELECT, true);
    output_start(PINS_STEP, false);
    output_start(PINS_DIRECTION, false);
    gpio_pull(PINS_FLAG, GPIO_PULL_UP);
    gpio_mode(PINS_FLAG, GPIO_MODE_INPUT, 0u);
    for (unsigned pin = 5; pin <= 7u; pin++) {
        gpio_mode(PINS_SPI_LETTER, pin, GPIO_MODE_ALTERNATE, SPI_ALTERNATE);
    }
    rcc_enable(&STM32F4_RCC->APB2ENR, RCC_APB2ENR_SPI1);
    /* Clock high at rest, read at its second edge; 84 MHz / 32 = 2.6 MHz of at most 5. */
    STM32F4_SPI1->CR1 = SPI_CR1_CPHA | SPI_CR1_CPOL | SPI_CR1_MSTR | SPI_CR1_BR_BY_32 | SPI_CR1_SSI |
                        SPI_CR1_SSM | SPI_CR1_SPE;
    rcc_enable(&STM32F4_RCC->APB1ENR, RCC_APB1ENR_TIMER(PINS_STEP_TIMER));
    step_timer()->ARR = STEP_TIMER_NEVER;
    step_timer()->CR1 = TIMER_CR1_URS | TIMER_CR1_CEN; /* EGR makes no interrupt */
    step_timer()->DIER = TIMER_DIER_UIE | TIMER_DIER_CC1IE;
    interrupt_allow(PINS_STEP_INTERRUPT);
}

void motor_actuate(const protocol_actuate_t *actuate, bool blind) {
    (void)blind; /* steps need no encoder */
    if (actuate->enable == PROTOCOL_ENABLE_OFF) {
        motor_off();
        return;
    }
    speed_ramp_actuate(&motor.ramp, actuate);
    if (motor.state == MOTOR_OFF) {
        gpio_write(PINS_STANDBY, true);
        motor.state = MOTOR_WAKING;
        motor.waking_ms = 0;
    }
}

void motor_millisecond(int32_t axis_count) {
    (void)axis_count; /* there is no encoder */
    const float speed = speed_ramp_millisecond(&motor.ramp);
    if (motor.state == MOTOR_ON) {
        set_speed(speed);
        return;
    }
    step_timer_hold();
    step_pace_rest(&motor.pace, motor.count);
    if (motor.state == MOTOR_WAKING && !motor.failed && motor.waking_ms++ >= WAKING_MS) {
        motor.failed = !configure();
        if (!motor.failed) {
            (void)exchange(COMMAND_ENABLE);
            motor.state = MOTOR_ON;
        }
    }
}

int32_t motor_count(void) {
    return motor.count;
}

bool motor_enabled(void) {
    return motor.ramp.enabled;
}

void motor_off(void) {
    gpio_write(PINS_STANDBY, false);
    step_timer_hold();
    speed_ramp_off(&motor.ramp);
    motor.state = MOTOR_OFF;
    motor.failed = false; /* or nobody could arm again and try */
}

bool motor_fault(void) {
    return motor.ramp.overdue || motor.failed || (motor.state == MOTOR_ON && !gpio_read(PINS_FLAG));
}
