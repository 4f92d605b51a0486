/* A program for this machine that a sanitised build runs: stacked observations come on standard input, their
 * actions go to standard output, first all of run_batch, then all of run_step after run_frames. */
#include <stdio.h>
#include <stdlib.h>

#include "harness.c"

int main(void) {
    const size_t row_bytes = POLICY_OBSERVATION_SIZE * sizeof(float);
    const size_t newest = (POLICY_OBSERVATION_SIZE - POLICY_BASE_OBSERVATION_SIZE);
    size_t count = 0, room = 0;
    float *rows = NULL;
    if (run_self_test() != 0) {
        return 3;
    }
    for (;;) {
        if (count == room) {
            room = 2u * room + 64u;
            float *const more = realloc(rows, room * row_bytes);
            if (more == NULL) {
                free(rows);
                return 4;
            }
            rows = more;
        }
        if (fread(&rows[count * POLICY_OBSERVATION_SIZE], row_bytes, 1, stdin) != 1u) {
            break;
        }
        ++count;
    }
    for (int step = 0; step < 2; ++step) {
        for (size_t i = 0; i < count; ++i) {
            /* Blocks of their own, so that the address sanitiser sees one value too many. */
            policy_state_t *const state = malloc(sizeof *state);
            float *const action = malloc(POLICY_ACTION_SIZE * sizeof(float));
            if (state == NULL || action == NULL) {
                return 4;
            }
            const float *const row = &rows[i * POLICY_OBSERVATION_SIZE];
            if (step == 0) {
                run_batch(row, action, 1u);
            } else {
                run_frames(state, row);
                run_step(state, &row[newest], action);
            }
            const size_t written = fwrite(action, POLICY_ACTION_SIZE * sizeof(float), 1, stdout);
            free(state);
            free(action);
            if (written != 1u) {
                return 5;
            }
        }
    }
    free(rows);
    return 0;
}
