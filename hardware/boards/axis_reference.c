#include "axis_reference.h"
#include "plant.h"

#include <string.h>

#define ROD_STILL_MS 2000u

/* Counts from end switch to end switch, and how far a measured distance may be off: a wrong belt, a wrong
 * encoder or a switch in the wrong place show here. Half of the way from the soft limit to the switch moves
 * the middle by a quarter of that way: an axis that keeps to its soft limits stays clear of the switches. */
#define TRAVEL    ((int32_t)(2.0f * PLANT_AXIS_LIMIT / PLANT_AXIS_PER_COUNT))
#define MARGIN    ((int32_t)((PLANT_AXIS_LIMIT - PLANT_AXIS_SOFT_LIMIT) / PLANT_AXIS_PER_COUNT))
#define TOLERANCE (MARGIN / 2)

void axis_reference_start(axis_reference_t *reference) {
    memset(reference, 0, sizeof *reference);
}

void axis_reference_middle(axis_reference_t *reference, int32_t axis_count) {
    axis_reference_start(reference);
    reference->left_seen = reference->right_seen = true;
    reference->left = axis_count - TRAVEL / 2;
    reference->right = reference->left + TRAVEL;
}

void axis_reference_uncounted(axis_reference_t *reference, uint32_t elapsed_ms) {
    reference->uncounted_ms += elapsed_ms;
    if (reference->uncounted_ms > AXIS_REFERENCE_UNCOUNTED_MS) {
        axis_reference_start(reference);
    }
}

static bool ends_found(const axis_reference_t *reference) {
    return reference->left_seen && reference->right_seen;
}

static void forget_ends(axis_reference_t *reference) {
    reference->left_seen = reference->right_seen = false;
}

void axis_reference_ends(axis_reference_t *reference, int32_t axis_count, bool left_open, bool right_open) {
    if (reference->rod_seen) {
        return;
    }
    if (left_open && right_open) { /* a cable is off: the cart is not at both ends */
        forget_ends(reference);
        return;
    }
    reference->leave = reference->leave && (left_open || right_open);
    if (reference->leave || ends_found(reference)) {
        return;
    }
    if (left_open && !reference->left_seen) {
        reference->left = axis_count;
        reference->left_seen = true;
    }
    if (right_open && !reference->right_seen) {
        reference->right = axis_count;
        reference->right_seen = true;
    }
    const int32_t travel = reference->right - reference->left;
    if (ends_found(reference) && (travel < TRAVEL - TOLERANCE || travel > TRAVEL + TOLERANCE)) {
        forget_ends(reference); /* once more, both */
        reference->leave = true;
    }
}

bool axis_reference_update(axis_reference_t *reference, int32_t rod_count, uint32_t elapsed_ms) {
    if (reference->rod_seen) {
        return true;
    }
    if (!ends_found(reference)) {
        reference->still_ms = 0;
        return false;
    }
    reference->axis_zero = reference->left + (reference->right - reference->left) / 2;
    const int32_t moved = rod_count - reference->still_count;
    if (reference->still_ms == 0u || moved > PLANT_HOMING_STILL_COUNTS ||
        moved < -PLANT_HOMING_STILL_COUNTS) {
        reference->still_count = rod_count;
        reference->still_ms = 0;
    }
    reference->still_ms += elapsed_ms;
    if (reference->still_ms < ROD_STILL_MS) {
        return false;
    }
    reference->rod_zero = rod_count;
    reference->rod_seen = true;
    return true;
}
