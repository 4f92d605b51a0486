/* A real board: encoders, a motor, contacts, and a watchdog of the chip's own. Drivers with these names are
 * in the chip's folder, what is wired where in the board's pins.h.
 */
#include "board.h"
#include "axis_reference.h"
#include "clock.h"
#include "contact.h"
#include "encoder.h"
#include "image_check.h"
#include "interrupts.h"
#include "motor.h"
#include "pins.h"
#include "plant.h"
#include "random.h"
#include "reset_cause.h"
#include "speed_ramp.h"
#include "stopwatch.h"
#include "tick.h"
#include "uart.h"
#include "watchdog.h"

#define LINK_PORT 0u
#define PERIOD_MS (PLANT_PERIOD_US / 1000)

/* The watchdog must not let the axis go while its motor still brakes. 50 ms more than the set-point needs:
 * what a speed loop is behind it, and a main loop that feeds late. */
#define WATCHDOG_MS (SPEED_RAMP_REST_MS + 50u)

_Static_assert(PLANT_PERIOD_US % 1000 == 0, "the control period is counted in milliseconds");
#if !defined(PINS_AXIS_ENCODER) && !defined(__clang__) /* which takes no fraction in a constant expression   \
                                                        */
_Static_assert((int)(PINS_STEPS_PER_UNIT * PLANT_AXIS_PER_COUNT * 1000.0f + 0.5f) == 1000,
               "a step is the position's count: PINS_STEPS_PER_UNIT has to be the plant's counts");
#endif

static struct {
    encoder_t axis, rod; /* in the interrupt only */
    bool driven;         /* since the axis was referenced; where the axis has no encoder */
    axis_reference_t reference;
    uint32_t elapsed_ms;
    uint8_t opened;             /* contacts, since the last boundary; in the interrupt only */
    protocol_sensors_t sensors; /* of the newest boundary */
    volatile bool sampled;      /* and nobody has taken it yet */
    uint8_t reset_cause;
    bool watched; /* by the independent watchdog */
} board;

/* Lies in flash before the CRC: what is flashed says itself what it is for. The NUL in front tells where it
 * begins. */
__attribute__((section(".board"), used)) static const char board_identity[] =
    "\0" PINS_BOARD_NAME " real " PLANT_NAME;

#ifdef PINS_AXIS_ENCODER
static const encoder_place_t axis_place = PINS_AXIS_ENCODER;
#endif
static const encoder_place_t rod_place = PINS_ROD_ENCODER;

void board_panic(void) {
    motor_off();
}

static uint8_t read_contacts(void) {
    uint8_t flags = 0;
    if (contact_open(PINS_EMERGENCY_STOP)) {
        flags |= PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP;
    }
#ifdef PINS_END_LEFT
    if (contact_open(PINS_END_LEFT)) {
        flags |= PROTOCOL_SENSOR_FLAG_END_LEFT;
    }
    if (contact_open(PINS_END_RIGHT)) {
        flags |= PROTOCOL_SENSOR_FLAG_END_RIGHT;
    }
#endif
    if (motor_fault()) {
        flags |= PROTOCOL_SENSOR_FLAG_DRIVE_FAULT;
    }
    return flags;
}

static int32_t read_axis(void) {
#ifdef PINS_AXIS_ENCODER
    return encoder_read(&board.axis);
#else
    return motor_count();
#endif
}

/* An axis without end switches is in its middle when somebody presses a button; one without an encoder may be
 * anywhere once its drive has been on and is off again, or was not switched on for a while. */
static void update_reference(int32_t axis) {
#ifndef PINS_AXIS_ENCODER
    if (board.driven && !motor_enabled()) {
        axis_reference_start(&board.reference);
    }
    board.driven = motor_enabled();
    if (!board.driven) {
        axis_reference_uncounted(&board.reference, PERIOD_MS);
    }
#endif
#ifdef PINS_MIDDLE_BUTTON
    if (!contact_open(PINS_MIDDLE_BUTTON) && !motor_enabled()) {
        axis_reference_middle(&board.reference, axis);
    }
#else
    (void)axis;
#endif
}

/* A boundary: everything is read here, in the interrupt, so that a busy main loop moves no sample. */
static void sample(int32_t axis) {
    const int32_t rod = encoder_read(&board.rod);
    uint8_t flags = board.opened;
    board.opened = 0;
    if (encoder_lost(&board.rod)) {
        axis_reference_start(&board.reference); /* everything anew, also by hand */
    }
    update_reference(axis);
    if (axis_reference_update(&board.reference, rod, PERIOD_MS)) {
        flags |= PROTOCOL_SENSOR_FLAG_REFERENCED;
    }
    board.sensors.tick++;
    board.sensors.time_us = stopwatch_us();
    board.sensors.cart_count = axis - board.reference.axis_zero;
    board.sensors.rod_count = rod - board.reference.rod_zero;
    board.sensors.flags = flags;
    board.sampled = true;
}

void tick_millisecond(void) {
    const int32_t axis = read_axis();
    const uint8_t open = read_contacts();
    (void)encoder_read(&board.rod); /* what it has counted must not overflow */
    motor_millisecond(axis);
    axis_reference_ends(&board.reference, axis, (open & PROTOCOL_SENSOR_FLAG_END_LEFT) != 0u,
                        (open & PROTOCOL_SENSOR_FLAG_END_RIGHT) != 0u);
    board.opened |= open; /* once is enough: a contact that bounces is open for longer, and that is all */
    if (++board.elapsed_ms == PERIOD_MS) {
        board.elapsed_ms = 0;
        sample(axis);
    }
}

void board_wait(void) {
    while (uart_pump()) {
        if (board.sampled) {
            return;
        }
    }
    interrupts_disable();
    if (!uart_received() && !board.sampled) {
        wait_for_interrupt();
    }
    interrupts_enable();
}

uint32_t board_time_us(void) {
    return board_stopwatch_us();
}

uint32_t board_stopwatch_us(void) {
    interrupts_disable(); /* the interrupt reads it, too */
    const uint32_t now_us = stopwatch_us();
    interrupts_enable();
    return now_us;
}

size_t board_link_read(uint8_t *data, size_t size) {
    return uart_read(LINK_PORT, data, size);
}

void board_link_write(const uint8_t *data, size_t size) {
    (void)uart_write(LINK_PORT, data, size); /* no room: the frame is lost whole */
}

bool board_sensors(protocol_sensors_t *sensors) {
    if (!board.sampled) {
        return false;
    }
    interrupts_disable();
    *sensors = board.sensors;
    board.sampled = false;
    interrupts_enable();
    if (!board.watched) { /* not before: the self-test and the image's CRC take a slow chip longer than it
                             waits */
        board.watched = true;
        watchdog_start(WATCHDOG_MS);
    }
    watchdog_feed(); /* by a main loop that takes its periods, and by nothing else */
    return true;
}

void board_actuate(const protocol_actuate_t *actuate, uint8_t troubles) {
    interrupts_disable();
    motor_actuate(actuate, troubles != 0u);
    if (actuate->enable == PROTOCOL_ENABLE_OFF && (troubles & BOARD_TROUBLE_ENCODER) != 0u) {
        axis_reference_start(&board.reference); /* counts that were wrong once have lost their zero */
    }
    interrupts_enable();
}

uint32_t board_nonce(void) {
    return random_number();
}

const char *board_name(void) {
    return PINS_BOARD_NAME;
}

uint8_t board_reset_cause(void) {
    return board.reset_cause;
}

uint8_t board_variant(void) {
    return PROTOCOL_VARIANT_REAL;
}

uint32_t board_image_check(void) {
    return image_check();
}

void board_exchange_done(uint32_t tick) {
    (void)tick; /* time does not wait here */
}

int main(void) {
    motor_start(); /* before anything that may take its time: the drive is off from here on */
    board.reset_cause = reset_cause_take();
    if (!clock_start()) {
        return 1; /* the start-up code resets the chip */
    }
    stopwatch_start();
    random_start();
    contact_start(PINS_EMERGENCY_STOP);
#ifdef PINS_END_LEFT
    contact_start(PINS_END_LEFT);
    contact_start(PINS_END_RIGHT);
#endif
#ifdef PINS_MIDDLE_BUTTON
    contact_start(PINS_MIDDLE_BUTTON);
#endif
    axis_reference_start(&board.reference);
#ifdef PINS_AXIS_ENCODER
    encoder_start(&board.axis, &axis_place);
#endif
    encoder_start(&board.rod, &rod_place);
    uart_start(LINK_PORT, PINS_LINK_BAUD);
    tick_start();
    interrupts_enable();
    firmware_run();
    return 0;
}
