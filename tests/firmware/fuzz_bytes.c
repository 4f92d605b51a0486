/* The fuzzer's bytes go over the wire as they are, with a control period every 32 of them, to a device that
 * is homed and whose first nonce is the same every time. replay_corpus.c does the same without a fuzzer.
 */
#include "device_bench.h"

#define HOMING       12u /* periods */
#define PERIOD_BYTES 32u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const bench_options_t options = {.damaged = false};
    const bench_trouble_t trouble = bench_quiet();
    bench_start(&options);
    for (unsigned i = 0; i < HOMING; i++) {
        bench_period(&trouble);
    }
    for (size_t at = 0; at < size; at += PERIOD_BYTES) {
        bench_receive(data + at, size - at < PERIOD_BYTES ? size - at : PERIOD_BYTES);
        bench_period(&trouble);
    }
    return 0;
}
