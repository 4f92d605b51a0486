/* Noise at a device that runs: `hostile_stream BYTES [damaged]`. Half of the bytes are random, half are
 * mutated valid frames with their CRC recomputed, with a control period every few dozen. Whatever stops the
 * device, it is soon brought to run again, so that there is something to disturb. Prints `bytes`, `random`,
 * `frames` (bodies that reached link_handle), `driven` (periods) and what happened.
 */
#include "device_bench.h"
#include "happenings.h"
#include "hostile_host.h"

#include <stdlib.h>

static void live(unsigned period) {
    bench_trouble_t trouble = bench_quiet();
    if (period % 512u < 16u) {
        trouble.flags = 0; /* the reference is gone for a while: an encoder's fault is forgiven */
    }
    if (period % 131u == 0u) {
        trouble.flags |= PROTOCOL_SENSOR_FLAG_EMERGENCY_STOP;
    }
    bench_period(&trouble);
    if (period % 64u == 32u) {
        (void)hostile_disarm();
        (void)hostile_greet();
        (void)hostile_configure((uint8_t)(period / 64u % 3u), 3u, 0u);
        (void)hostile_arm();
    }
    if (period % 4u != 3u) { /* else somebody else may answer */
        (void)hostile_answer((float)(period % 40u) - 20.0f);
    }
}

int main(int count, char **arguments) {
    const size_t wanted = count > 1 ? strtoul(arguments[1], NULL, 10) : 0u;
    const bool damaged = count > 2 && strcmp(arguments[2], "damaged") == 0;
    const bench_options_t options = {.damaged = damaged, .armed_by_damage = damaged};
    hostile_choices_t choices = {.random = 1u};
    size_t random = 0;
    size_t mutated = 0;
    bench_start(&options);
    hostile_start();
    for (unsigned period = 0; random + mutated < wanted; period++) {
        live(period);
        for (unsigned piece = hostile_u8(&choices) % 4u; piece > 0u; piece--) {
            if (random < mutated) {
                random += hostile_bytes(&choices, hostile_u8(&choices) % 64u + 1u);
            } else {
                mutated += hostile_mutated(&choices);
            }
        }
    }
    (void)printf("bytes %zu\nrandom %zu\nframes %u\ndriven %u\n", random + mutated, random,
                 (unsigned)bench_frames(), (unsigned)bench_driven());
    happenings_write(stdout);
    return 0;
}
