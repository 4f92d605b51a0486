#include "counts.h"
#include "plant.h"

#include <math.h>

static void follow(counts_encoder_t *encoder, int32_t count, uint32_t jump_counts, bool comparable) {
    const uint32_t difference = (uint32_t)count - (uint32_t)encoder->count;
    const uint32_t change = difference - encoder->difference;
    encoder->jumped = comparable && change > jump_counts && change < 0u - jump_counts;
    encoder->count = count;
    encoder->difference = difference;
}

void counts_step(counts_t *counts, const protocol_sensors_t *sensors, uint32_t elapsed, float setpoint,
                 bool armed) {
    const bool whole = elapsed == 1u;
    const bool comparable = whole && counts->whole;
    const float speed = 0.5f * (counts->earlier_setpoint + setpoint);
    const float change = fabsf(setpoint - counts->earlier_setpoint);
    counts->whole = whole;
    follow(&counts->cart, sensors->cart_count, PLANT_AXIS_JUMP_COUNTS, comparable);
    follow(&counts->rod, sensors->rod_count, PLANT_ROD_JUMP_COUNTS, comparable);
    if (!armed || counts->cart.difference != 0u) {
        counts->cart.unseen = 0.0f;
    } else if (fabsf(speed) > PLANT_AXIS_DEAD_SPEED) {
        /* With its sign: a cart that is shaken to and fro comes back to the same count. */
        counts->cart.unseen += speed * PLANT_PERIOD;
    }
    if (!armed || counts->rod.difference != 0u) {
        counts->rod.unseen = 0.0f;
    } else if (change > PLANT_ROD_DEAD_CHANGE) {
        counts->rod.unseen += change;
    }
    counts->earlier_setpoint = setpoint;
}

uint8_t counts_fault(const counts_encoder_t *encoder, float frozen) {
    /* A count that stands still all of a sudden is a jump of the speed, but it is frozen. */
    if (fabsf(encoder->unseen) > frozen || (encoder->jumped && encoder->difference == 0u)) {
        return PROTOCOL_FAULT_ENCODER_FROZEN;
    }
    return encoder->jumped ? PROTOCOL_FAULT_ENCODER_JUMP : PROTOCOL_FAULT_NONE;
}
