/* Runs a fuzzer's inputs without the fuzzer: `replay_corpus WIRE INPUT...`. Everything that went over the
 * wire is written to the file WIRE; printed is what happened (a line `NAME_VALUE COUNT` for each), and
 * `trace`, one number for everything that the device sent and did.
 */
#include "device_bench.h"
#include "happenings.h"

#define LARGEST 65536u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int count, char **arguments) {
    static uint8_t data[LARGEST];
    if (count < 3 || (bench_wire = fopen(arguments[1], "wb")) == NULL) {
        (void)fprintf(stderr, "usage: replay_corpus WIRE INPUT...\n");
        return 2;
    }
    for (int i = 2; i < count; i++) {
        FILE *file = fopen(arguments[i], "rb");
        if (file == NULL) {
            (void)fprintf(stderr, "error: cannot read %s\n", arguments[i]);
            return 2;
        }
        const size_t size = fread(data, 1, sizeof data, file);
        (void)fclose(file);
        (void)LLVMFuzzerTestOneInput(data, size);
        (void)fputc(0, bench_wire); /* a frame that the next input would go on with */
    }
    happenings_write(stdout);
    (void)printf("trace %u\n", (unsigned)bench_trace());
    return fclose(bench_wire) == 0 ? 0 : 1;
}
