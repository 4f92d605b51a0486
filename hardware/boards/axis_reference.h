/* Where zero is: incremental encoders forget it with every reset.
 *
 * The driven axis is moved by hand to both ends; the middle between the end switches is zero. Then the rod
 * hangs still for two seconds, which is its zero. An axis without end switches is put into the middle by
 * hand, and a button says so; without an encoder that is good for half a minute. Until both are known the
 * counts mean nothing and the axis is not referenced.
 */
#ifndef AXIS_REFERENCE_H
#define AXIS_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#define AXIS_REFERENCE_UNCOUNTED_MS 30000u

typedef struct {
    bool left_seen, right_seen, rod_seen;
    int32_t left, right;         /* counts where the end switches opened */
    int32_t axis_zero, rod_zero; /* counts */
    int32_t still_count;
    uint32_t still_ms;
    uint32_t uncounted_ms;
} axis_reference_t;

void axis_reference_start(axis_reference_t *reference);

/* For an axis without end switches: somebody says that it stands in its middle now. */
void axis_reference_middle(axis_reference_t *reference, int32_t axis_count);

/* For an axis without an encoder: its drive is off, and by hand it moves without being counted. After
 * AXIS_REFERENCE_UNCOUNTED_MS of that nobody knows where it is: start again. */
void axis_reference_uncounted(axis_reference_t *reference, uint32_t elapsed_ms);

/* Raw counts and end switches (true: open), every `elapsed_ms`. True when both zeros are known. */
bool axis_reference_update(axis_reference_t *reference, int32_t axis_count, int32_t rod_count, bool left_open,
                           bool right_open, uint32_t elapsed_ms);

#endif
