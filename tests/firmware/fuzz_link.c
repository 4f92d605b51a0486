/* Hostile bytes: everything on stdin goes through link.c as if a host had sent it, with a control period
 * every 256 bytes. Whatever comes, a drive that nobody armed stays off, and an armed one gets finite
 * accelerations within the limit. Prints the number of bodies that reached a handler.
 *
 *   fuzz_link          never armed: the device's nonces are not foreseeable
 *   fuzz_link armed    armed again and again, by the test itself and by a stream that knows the nonces
 *   fuzz_link damaged  the same with a damaged image, whose damage lets the state machine arm: the drive
 * stays off
 */
#include "board.h"
#include "link.h"
#include "plant.h"

#include <stdio.h>
#include <stdlib.h>

static uint8_t input[64];
static size_t input_size;
static bool foreseeable;
static uint32_t frames_sent;
static uint32_t driven; /* periods */

size_t board_link_read(uint8_t *data, size_t size) {
    const size_t count = input_size < size ? input_size : size;
    memcpy(data, input, count);
    input_size = 0;
    return count;
}

void board_link_write(const uint8_t *data, size_t size) {
    if (size == 0 || size > FRAMING_MAXIMUM_FRAME_SIZE || data[size - 1] != 0) {
        abort();
    }
    frames_sent++;
}

uint32_t board_nonce(void) {
    static uint32_t nonce = 0x3C6EF35Fu;
    if (foreseeable) {
        return 1u; /* what the stream's CONFIG and ARM say */
    }
    nonce = nonce * 1664525u + 1013904223u;
    return nonce;
}

const char *board_name(void) {
    return "a name that is longer than the sixteen bytes";
}

uint8_t board_reset_cause(void) {
    return PROTOCOL_RESET_CAUSE_UNKNOWN;
}

uint8_t board_variant(void) {
    return PROTOCOL_VARIANT_HIL;
}

uint32_t board_stopwatch_us(void) {
    static uint32_t now_us;
    return now_us++;
}

void board_exchange_done(uint32_t tick) {
    (void)tick;
}

static void require(bool condition, const char *what) {
    if (!condition) {
        (void)printf("violated: %s\n", what);
        exit(1);
    }
}

static uint32_t draw(void) {
    static uint32_t state = 1u;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* The encoders of a cart that follows its set-point and of a rod that never rests; every now and then any
 * inputs. */
static void measure(uint32_t tick, float setpoint, protocol_sensors_t *sensors) {
    static float counts;
    counts += setpoint * PLANT_PERIOD / PLANT_AXIS_PER_COUNT;
    if (counts > 1e6f || counts < -1e6f) {
        counts = 0.0f; /* a jump */
    }
    *sensors = (protocol_sensors_t){
        .tick = tick,
        .cart_count = (int32_t)counts,
        .rod_count = (int32_t)(tick % 2u),
        .flags = draw() % 64u == 0u ? (uint8_t)draw() : PROTOCOL_SENSOR_FLAG_REFERENCED,
    };
}

static void check_period(link_t *link, safety_t *safety, uint32_t tick, bool armed_by_test) {
    const float observation[5] = {0.1f, 0.0f, 0.0f, -1.0f, 0.0f};
    protocol_sensors_t sensors;
    protocol_actuate_t actuate;
    measure(tick, safety->drive.velocity_setpoint, &sensors);
    safety_period(safety, &sensors, observation, &actuate);
    link_send_fault(link, safety);
    if (tick % 50u == 0u) {
        link_send_statistics(link);
    }
    driven += actuate.enable == PROTOCOL_ENABLE_DRIVE ? 1u : 0u;
    require(armed_by_test || actuate.enable == PROTOCOL_ENABLE_OFF, "no drive while disarmed");
    require(safety->image_check == BOARD_IMAGE_GOOD || actuate.enable == PROTOCOL_ENABLE_OFF,
            "no drive with a damaged image");
    require(actuate.enable != PROTOCOL_ENABLE_OFF ||
                (!(actuate.acceleration < 0.0f) && !(actuate.acceleration > 0.0f)),
            "no acceleration with the drive off");
    require(actuate.acceleration >= -PLANT_ACCELERATION_LIMIT &&
                actuate.acceleration <= PLANT_ACCELERATION_LIMIT,
            "acceleration within its limit");
    require(actuate.velocity_setpoint >= -PLANT_SPEED_LIMIT && actuate.velocity_setpoint <= PLANT_SPEED_LIMIT,
            "speed within its limit");
}

int main(int count, char **arguments) {
    const bool damaged = count > 1 && strcmp(arguments[1], "damaged") == 0;
    const bool armed = damaged || (count > 1 && strcmp(arguments[1], "armed") == 0);
    const link_identity_t identity = {.policy_digest = (const uint8_t *)"0123456789abcdef0123456789abcdef"};
    static link_t link;
    static safety_t safety;
    uint32_t tick = 0;
    foreseeable = armed;
    uint32_t reads = 0;
    link_start(&link, &identity);
    const protocol_config_t config = {.mode = PROTOCOL_MODE_HOST, .watchdog_periods = 2u};
    safety_start(&safety, true, damaged ? BOARD_IMAGE_GOOD ^ 0x100u : BOARD_IMAGE_GOOD);
    (void)safety_configure(&safety, &config);
    while ((input_size = fread(input, 1, sizeof input, stdin)) > 0) {
        link_poll(&link, &safety);
        if (++reads % 4u == 0u) {
            check_period(&link, &safety, ++tick, armed);
            if (armed && safety.state == PROTOCOL_STATE_OFF) {
                (void)safety_disarm(&safety, 0);
            }
            if (armed && safety.state == PROTOCOL_STATE_IDLE) {
                const uint8_t result = safety_arm(&safety, true, 1u);
                require(!damaged || result != PROTOCOL_RESULT_OK, "a damaged image is not armed");
                if (damaged) {
                    /* As if safety_arm() had been what is damaged. */
                    safety.state = PROTOCOL_STATE_ARMED;
                    safety.session = 1u;
                    safety.armed_tick = tick + 1u;
                    safety.fed_tick = tick;
                }
            }
        }
    }
    require(link.decoder.frames == 0u || frames_sent > 0u, "somebody was answered");
    require(!armed || damaged || driven > 0u, "the drive was on when it may be");
    (void)printf("%u\n", (unsigned)link.decoder.frames);
    return 0;
}
