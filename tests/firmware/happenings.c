#include "happenings.h"

#define VALUES 16u /* of each; more than any of them has */

static uint32_t counts[HAPPENING_COUNT][VALUES];

/* libFuzzer looks for this section, and clears it before each input. */
__attribute__((section("__libfuzzer_extra_counters"))) static uint8_t seen[HAPPENING_COUNT][VALUES];

void happenings_note(happening_t what, unsigned value) {
    counts[what][value % VALUES]++;
    seen[what][value % VALUES] = 1u;
}

void happenings_write(FILE *file) {
    static const char *const names[HAPPENING_COUNT] = {
        "hello", "no_handler", "config", "arm", "disarm", "command", "heartbeat", "fault", "state", "driven",
    };
    for (unsigned what = 0; what < HAPPENING_COUNT; what++) {
        for (unsigned value = 0; value < VALUES; value++) {
            if (counts[what][value] > 0u) {
                (void)fprintf(file, "%s_%u %u\n", names[what], value, (unsigned)counts[what][value]);
            }
        }
    }
}
