/* The fuzzer's bytes as a script: the first says what kind of device, each further one what happens next to
 * it. Every message is framed with a right CRC, so that all handlers are reached; replay_corpus.c runs the
 * same scripts without a fuzzer.
 */
#include "device_bench.h"
#include "hostile_host.h"

#define HOMING 12u /* periods */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void quiet(unsigned periods, bool answered, hostile_choices_t *choices) {
    const bench_trouble_t troubles = bench_quiet();
    for (unsigned i = 0; i < periods; i++) {
        bench_period(&troubles);
        if (answered) {
            (void)hostile_answer(0.1f * ((float)hostile_u8(choices) - 128.0f));
        }
    }
}

static void trouble(hostile_choices_t *choices) {
    bench_trouble_t troubles = bench_quiet();
    const uint8_t what = hostile_u8(choices);
    troubles.flags = (what & 1u) != 0u ? hostile_u8(choices) : troubles.flags;
    troubles.elapsed = (what & 2u) != 0u ? hostile_u8(choices) % 4u : 1u;
    troubles.cart_jump = (what & 4u) != 0u ? (int32_t)(hostile_u32(choices) >> (what >> 3)) : 0;
    troubles.rod_jump = (what & 32u) != 0u ? (int32_t)(hostile_u32(choices) >> (what >> 3)) : 0;
    troubles.cart_frozen = (what & 64u) != 0u;
    troubles.rod_frozen = (what & 128u) != 0u;
    for (unsigned left = hostile_u8(choices) % 16u + 1u; left > 0u; left--) {
        bench_period(&troubles);
        (void)hostile_answer(15.0f);
        troubles.elapsed = 1u;
        troubles.cart_jump = troubles.rod_jump = 0;
    }
}

static void step(hostile_choices_t *choices) {
    const uint8_t what = hostile_u8(choices);
    switch (what % 16u) {
    case 0:
        quiet(1, false, choices);
        break;
    case 1:
        quiet(what / 16u + 1u, true, choices);
        break;
    case 2:
        quiet(what / 8u + 1u, false, choices);
        break;
    case 3:
        trouble(choices);
        break;
    case 4:
        bench_spin((int32_t)hostile_u8(choices) * 4 - 512);
        break;
    case 5:
        (void)hostile_greet();
        break;
    case 6:
        (void)hostile_configure(what / 16u % 3u, 2u, what / 64u == 3u ? 1u : 0u);
        break;
    case 7:
        (void)hostile_arm();
        break;
    case 8:
        (void)hostile_disarm();
        break;
    case 9:
        (void)hostile_replay(choices);
        break;
    case 10:
        (void)hostile_mutated(choices);
        break;
    case 11:
        (void)hostile_bytes(choices, what / 16u + 1u);
        break;
    default:
        (void)hostile_message(choices);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    hostile_choices_t choices = {.data = data, .size = size};
    const uint8_t kind = hostile_u8(&choices);
    const bench_options_t options = {
        .damaged = (kind & 7u) == 1u,
        .armed_by_damage = (kind & 8u) != 0u,
        .self_test_fails = (kind & 7u) == 2u,
        .late_start = (kind & 16u) != 0u,
    };
    bench_start(&options);
    hostile_start();
    if ((kind & 32u) != 0u) {
        quiet(HOMING, false, &choices);
        (void)hostile_greet();
        (void)hostile_configure((kind >> 6) % 3u, 2u, 0u);
        (void)hostile_arm();
    }
    while (choices.at < size) {
        step(&choices);
    }
    return 0;
}
