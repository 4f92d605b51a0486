#include "device_bench.h"
#include "board.h"
#include "happenings.h"
#include "plant.h"
#include "safety_rules.h"

#include "main.c" /* the firmware's own loop, to call its period and to see its state */

#include <stdlib.h>

#define LATE_TICK  0xFFFFFF00u
#define LATE_US    (0xFFFFFFFFu - 10000000u)
#define FNV_OFFSET 2166136261u
#define FNV_PRIME  16777619u

FILE *bench_wire;
int policy_self_test_result;

static struct {
    bench_options_t options;
    safety_rules_t rules;
    framing_decoder_t received, sent; /* the wire, followed from outside */
    uint8_t waiting[2 * FRAMING_MAXIMUM_FRAME_SIZE];
    size_t waiting_size;
    uint32_t nonce, earlier_nonce;
    bench_plant_t plant;
    protocol_actuate_t actuate;
    uint8_t troubles;
    uint16_t send_sequence;
    bool greeted;
} bench;

static uint32_t trace = FNV_OFFSET;
static uint32_t frames, driven;

static void remember(const void *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        trace = (trace ^ ((const uint8_t *)data)[i]) * FNV_PRIME;
    }
}

void board_wait(void) {}

uint32_t board_time_us(void) {
    return bench.plant.time_us;
}

uint32_t board_stopwatch_us(void) {
    return bench.plant.time_us++;
}

size_t board_link_read(uint8_t *data, size_t size) {
    const size_t count = bench.waiting_size < size ? bench.waiting_size : size;
    memcpy(data, bench.waiting, count);
    bench.waiting_size -= count;
    memmove(bench.waiting, bench.waiting + count, bench.waiting_size);
    return count;
}

static void note_sent(const uint8_t *body, size_t size) {
    protocol_acknowledge_t answer;
    protocol_fault_report_t fault;
    if (protocol_unpack_acknowledge(body, size, &answer)) {
        const happening_t request = answer.request_type == PROTOCOL_CONFIG_TYPE ? HAPPENING_CONFIG
                                    : answer.request_type == PROTOCOL_ARM_TYPE  ? HAPPENING_ARM
                                                                                : HAPPENING_DISARM;
        happenings_note(request, answer.result);
    } else if (protocol_unpack_fault_report(body, size, &fault)) {
        happenings_note(HAPPENING_FAULT, fault.reason);
    }
}

void board_link_write(const uint8_t *data, size_t size) {
    size_t body = 0;
    if (size == 1u && data[0] == 0u && bench.send_sequence == 0u) {
        return; /* the end of what a reset may have cut */
    }
    rules_require(size > 0u && size <= FRAMING_MAXIMUM_FRAME_SIZE, "a frame has the size of one");
    for (size_t i = 0; i < size; i++) {
        rules_require(body == 0u, "one frame at a time");
        body = framing_push(&bench.sent, data[i]);
    }
    rules_require(body > 0u, "what is sent is a frame");
    rules_require(protocol_sequence(bench.sent.buffer) == bench.send_sequence, "frames are numbered");
    rules_require(bench.greeted || protocol_type(bench.sent.buffer) == PROTOCOL_ACKNOWLEDGE_TYPE,
                  "nothing but answers until the first HELLO");
    bench.send_sequence++;
    remember(data, size);
    note_sent(bench.sent.buffer, body);
    rules_sent(&bench.rules, bench.sent.buffer, body);
}

bool board_sensors(protocol_sensors_t *sensors) {
    (void)sensors;
    return false; /* periods come from bench_period() */
}

void board_actuate(const protocol_actuate_t *actuate, uint8_t troubles) {
    bench.actuate = *actuate;
    bench.troubles = troubles;
}

uint32_t board_nonce(void) {
    bench.earlier_nonce = bench.nonce;
    bench.nonce = bench.nonce * 1664525u + 1013904223u;
    rules_nonce(&bench.rules, bench.nonce);
    return bench.nonce;
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

uint32_t board_image_check(void) {
    return bench.options.damaged ? BOARD_IMAGE_GOOD ^ 0x100u : BOARD_IMAGE_GOOD;
}

void board_exchange_done(uint32_t tick) {
    rules_require(tick == bench.plant.tick || (tick == 0u && firmware.safety.tick == 0u),
                  "only the running period's answer ends its exchange");
    remember(&tick, sizeof tick);
}

void bench_start(const bench_options_t *options) {
    const link_identity_t identity = {.policy_digest = policy_digest, .history = POLICY_HISTORY};
    memset(&bench, 0, sizeof bench);
    memset(&firmware, 0, sizeof firmware);
    bench.options = *options;
    bench.plant.tick = options->late_start ? LATE_TICK : 0u;
    bench.plant.time_us = options->late_start ? LATE_US : 0u;
    policy_self_test_result = options->self_test_fails ? 1 : 0;
    rules_start(&bench.rules, options->damaged || options->self_test_fails);
    bench.rules.sensors.tick = bench.plant.tick;
    /* As firmware_run() does before its loop. */
    link_start(&firmware.link, &identity);
    safety_start(&firmware.safety, policy_self_test() == 0, board_image_check());
    policy_reset(&firmware.policy);
}

static void note_received(const uint8_t *body, size_t size, const link_t *before) {
    const link_t *after = &firmware.link;
    protocol_hello_t hello;
    protocol_command_t command;
    protocol_heartbeat_t heartbeat;
    const unsigned verdict = after->stale_commands != before->stale_commands ? SAFETY_STALE
                             : after->refused != before->refused             ? SAFETY_REFUSED
                                                                             : SAFETY_ACCEPTED;
    frames++;
    if (protocol_unpack_command(body, size, &command)) {
        happenings_note(HAPPENING_COMMAND, verdict);
    } else if (protocol_unpack_heartbeat(body, size, &heartbeat)) {
        happenings_note(HAPPENING_HEARTBEAT, verdict);
    } else if (protocol_unpack_hello(body, size, &hello)) {
        happenings_note(HAPPENING_HELLO, 0u);
    } else if (after->send_sequence == before->send_sequence) {
        happenings_note(HAPPENING_NO_HANDLER, 0u);
    }
}

/* The device gets what waits; `size` bytes of it, when that is not 0, end in a frame with this body. */
static void deliver(size_t size) {
    const uint8_t *body = bench.received.buffer;
    const link_t before = firmware.link;
    protocol_hello_t hello;
    firmware.link.answered = false;
    if (size > 0u) {
        bench.greeted = bench.greeted || protocol_unpack_hello(body, size, &hello);
        rules_receive(&bench.rules, body, size);
    }
    link_poll(&firmware.link, &firmware.safety);
    rules_require(bench.waiting_size == 0u, "everything that came is read");
    rules_require(firmware.link.decoder.frames == before.decoder.frames + (size > 0u ? 1u : 0u),
                  "a frame is a frame on both sides");
    if (size > 0u) {
        rules_received(&bench.rules, firmware.link.answered);
        note_received(body, size, &before);
    } else {
        rules_require(!firmware.link.answered, "an answer comes in a frame");
    }
    firmware.link.answered = firmware.link.answered || before.answered;
}

void bench_receive(const uint8_t *data, size_t size) {
    if (bench_wire != NULL) {
        (void)fwrite(data, 1, size, bench_wire);
    }
    for (size_t i = 0; i < size; i++) {
        const size_t body = framing_push(&bench.received, data[i]);
        bench.waiting[bench.waiting_size++] = data[i];
        if (body > 0u || bench.waiting_size == sizeof bench.waiting) {
            deliver(body);
        }
    }
}

bench_trouble_t bench_quiet(void) {
    return (bench_trouble_t){.flags = PROTOCOL_SENSOR_FLAG_REFERENCED, .elapsed = 1u};
}

void bench_spin(int32_t counts_a_period) {
    bench.plant.wanted_spin = counts_a_period;
}

static void arm_by_damage(void) {
    safety_t *safety = &firmware.safety;
    if (bench.options.damaged && bench.options.armed_by_damage && !safety_drives(safety)) {
        safety->state = PROTOCOL_STATE_ARMED;
        safety->session = 1u;
        safety->armed_tick = safety->tick + 1u;
        safety->fed_tick = safety->tick;
    }
}

void bench_period(const bench_trouble_t *trouble) {
    const protocol_sensors_t sensors =
        bench_plant_step(&bench.plant, trouble, bench.actuate.velocity_setpoint);
    if (bench.waiting_size > 0u) {
        deliver(0);
    }
    arm_by_damage();
    memset(&bench.actuate, 0, sizeof bench.actuate); /* off, unless board_actuate() is called */
    bench.troubles = safety_troubles(&firmware.safety);
    run_period(&sensors);
    rules_period(&bench.rules, &sensors, &bench.actuate, bench.troubles);
    remember(&bench.actuate.acceleration, sizeof bench.actuate.acceleration);
    remember(&bench.actuate.enable, sizeof bench.actuate.enable);
    happenings_note(HAPPENING_STATE, firmware.safety.state);
    if (bench.actuate.enable == PROTOCOL_ENABLE_DRIVE) {
        driven++;
        happenings_note(HAPPENING_DRIVEN, firmware.safety.mode);
    }
}

bench_view_t bench_view(void) {
    return (bench_view_t){
        .nonce = bench.nonce,
        .earlier_nonce = bench.earlier_nonce,
        .session = bench.rules.session,
        .tick = bench.plant.tick,
        .state = firmware.safety.state,
        .mode = firmware.safety.mode,
    };
}

uint32_t bench_trace(void) {
    return trace;
}

uint32_t bench_frames(void) {
    return frames;
}

uint32_t bench_driven(void) {
    return driven;
}
