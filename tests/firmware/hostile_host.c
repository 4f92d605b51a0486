#include "hostile_host.h"
#include "device_bench.h"

#include <math.h>

#define RECORDED 16u

static uint16_t sequence;
static struct {
    uint8_t frame[FRAMING_MAXIMUM_FRAME_SIZE];
    size_t size;
} recorded[RECORDED];
static size_t recorded_count;

uint8_t hostile_u8(hostile_choices_t *choices) {
    if (choices->data == NULL) {
        choices->random = choices->random * 1664525u + 1013904223u;
        return (uint8_t)(choices->random >> 24);
    }
    return choices->at < choices->size ? choices->data[choices->at++] : 0u;
}

uint32_t hostile_u32(hostile_choices_t *choices) {
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++) {
        value = (value << 8) | hostile_u8(choices);
    }
    return value;
}

void hostile_start(void) {
    sequence = 0;
    recorded_count = 0;
}

static size_t send_frame(const uint8_t *body, size_t size) {
    const size_t slot = recorded_count++ % RECORDED;
    recorded[slot].size = framing_encode(body, size, recorded[slot].frame);
    bench_receive(recorded[slot].frame, recorded[slot].size);
    return recorded[slot].size;
}

static uint32_t choose_nonce(hostile_choices_t *choices) {
    const bench_view_t view = bench_view();
    const uint8_t how = hostile_u8(choices) % 8u;
    return how < 6u ? view.nonce : (how == 6u ? view.earlier_nonce : hostile_u32(choices));
}

static uint32_t choose_session(hostile_choices_t *choices) {
    const uint8_t how = hostile_u8(choices) % 8u;
    return how < 6u ? bench_view().session : (how == 6u ? 0u : hostile_u32(choices));
}

static uint32_t choose_tick(hostile_choices_t *choices) {
    const uint8_t how = hostile_u8(choices) % 16u;
    return how < 12u ? bench_view().tick
                     : (how == 15u ? hostile_u32(choices) : bench_view().tick + (uint32_t)how - 14u);
}

static float choose_action(hostile_choices_t *choices) {
    const uint8_t how = hostile_u8(choices) % 8u;
    uint8_t bytes[4];
    if (how == 6u) {
        return NAN;
    }
    if (how < 6u) {
        return 0.2f * ((float)hostile_u8(choices) - 128.0f); /* a little beyond the limit */
    }
    protocol_put_u32(bytes, hostile_u32(choices));
    return protocol_get_f32(bytes);
}

static size_t compose(hostile_choices_t *choices, uint8_t *body) {
    sequence = (uint16_t)(sequence + (hostile_u8(choices) % 16u == 0u ? hostile_u32(choices) : 1u));
    switch (hostile_u8(choices) % 8u) {
    case 0: {
        const protocol_hello_t hello = {.protocol_version = hostile_u8(choices),
                                        .host_nonce = hostile_u32(choices)};
        return protocol_pack_hello(&hello, sequence, body);
    }
    case 1: {
        const protocol_config_t config = {.device_nonce = choose_nonce(choices),
                                          .mode = hostile_u8(choices) % 4u,
                                          .watchdog_periods = hostile_u8(choices) % 12u,
                                          .untethered = hostile_u8(choices) % 3u};
        return protocol_pack_config(&config, sequence, body);
    }
    case 2: {
        const protocol_arm_t arm = {.device_nonce = choose_nonce(choices),
                                    .host_nonce = hostile_u8(choices) % 16u == 0u ? bench_view().nonce : 7u};
        return protocol_pack_arm(&arm, sequence, body);
    }
    case 3: {
        const protocol_disarm_t disarm = {.session = choose_session(choices)};
        return protocol_pack_disarm(&disarm, sequence, body);
    }
    case 4:
    case 5: {
        const protocol_command_t command = {.session = choose_session(choices),
                                            .observation_tick = choose_tick(choices),
                                            .action = choose_action(choices)};
        return protocol_pack_command(&command, sequence, body);
    }
    default: {
        const protocol_heartbeat_t heartbeat = {.session = choose_session(choices),
                                                .observation_tick = choose_tick(choices)};
        return protocol_pack_heartbeat(&heartbeat, sequence, body);
    }
    }
}

size_t hostile_message(hostile_choices_t *choices) {
    uint8_t body[PROTOCOL_MAXIMUM_BODY_SIZE];
    return send_frame(body, compose(choices, body));
}

size_t hostile_mutated(hostile_choices_t *choices) {
    uint8_t body[PROTOCOL_MAXIMUM_BODY_SIZE] = {0};
    size_t size = compose(choices, body);
    const uint8_t changes = (uint8_t)(1u + hostile_u8(choices) % 3u);
    for (uint8_t i = 0; i < changes; i++) {
        const size_t at = hostile_u8(choices) % size;
        body[at] = hostile_u8(choices);
    }
    if (hostile_u8(choices) % 4u == 0u) {
        size = 3u + hostile_u8(choices) % (PROTOCOL_MAXIMUM_BODY_SIZE - 2u);
    }
    return send_frame(body, size);
}

size_t hostile_replay(hostile_choices_t *choices) {
    const size_t known = recorded_count < RECORDED ? recorded_count : RECORDED;
    if (known == 0u) {
        return 0;
    }
    const size_t slot = hostile_u8(choices) % known;
    bench_receive(recorded[slot].frame, recorded[slot].size);
    return recorded[slot].size;
}

size_t hostile_bytes(hostile_choices_t *choices, size_t size) {
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = hostile_u8(choices);
        bench_receive(&byte, 1);
    }
    return size;
}

size_t hostile_greet(void) {
    uint8_t body[PROTOCOL_HELLO_SIZE];
    const protocol_hello_t hello = {.protocol_version = PROTOCOL_VERSION, .host_nonce = 3u};
    return send_frame(body, protocol_pack_hello(&hello, ++sequence, body));
}

size_t hostile_configure(uint8_t mode, uint8_t watchdog_periods, uint8_t untethered) {
    uint8_t body[PROTOCOL_CONFIG_SIZE];
    const protocol_config_t config = {.device_nonce = bench_view().nonce,
                                      .mode = mode,
                                      .watchdog_periods = watchdog_periods,
                                      .untethered = untethered};
    return send_frame(body, protocol_pack_config(&config, ++sequence, body));
}

size_t hostile_arm(void) {
    uint8_t body[PROTOCOL_ARM_SIZE];
    const protocol_arm_t arm = {.device_nonce = bench_view().nonce, .host_nonce = 7u};
    return send_frame(body, protocol_pack_arm(&arm, ++sequence, body));
}

size_t hostile_answer(float action) {
    uint8_t body[PROTOCOL_COMMAND_SIZE];
    const bench_view_t view = bench_view();
    if (view.mode == PROTOCOL_MODE_HOST && view.state == PROTOCOL_STATE_ARMED) {
        const protocol_command_t command = {
            .session = view.session, .observation_tick = view.tick, .action = action};
        return send_frame(body, protocol_pack_command(&command, ++sequence, body));
    }
    const protocol_heartbeat_t heartbeat = {.session = view.session, .observation_tick = view.tick};
    return send_frame(body, protocol_pack_heartbeat(&heartbeat, ++sequence, body));
}

size_t hostile_disarm(void) {
    uint8_t body[PROTOCOL_DISARM_SIZE];
    const protocol_disarm_t disarm = {.session = 0u};
    return send_frame(body, protocol_pack_disarm(&disarm, ++sequence, body));
}
