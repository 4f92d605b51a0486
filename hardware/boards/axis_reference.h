/* Where zero is: incremental encoders forget it with every reset.
 *
 * The driven axis is moved by hand to both ends; the middle between the end switches is zero. A distance
 * between them that the plant does not have is no reference: the middle would be off by half of the
 * difference, and the soft limit is only a little way before the switch. Then the rod hangs still for two
 * seconds, which is its zero. An axis without end switches is put into the middle by hand, and a button says
 * so; without an encoder that is good for half a minute. Until both are known the counts mean nothing and the
 * axis is not referenced.
 */
#ifndef AXIS_REFERENCE_H
#define AXIS_REFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#define AXIS_REFERENCE_UNCOUNTED_MS 30000u

typedef struct {
    bool left_seen, right_seen, rod_seen;
    bool leave; /* the ends did not match: both switches have to close before one is looked at again */
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

/* Raw count and end switches (true: open), every millisecond: the count at which one opens is its place, and
 * further on a hand moves the axis by millimetres. */
void axis_reference_ends(axis_reference_t *reference, int32_t axis_count, bool left_open, bool right_open);

/* Raw count of the rod, every `elapsed_ms`. True when both zeros are known. */
bool axis_reference_update(axis_reference_t *reference, int32_t rod_count, uint32_t elapsed_ms);

#endif
