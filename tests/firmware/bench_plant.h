/* The plant of the bench: a cart that follows its set-point and a rod that never quite rests, with whatever
 * trouble a test asks for.
 */
#ifndef BENCH_PLANT_H
#define BENCH_PLANT_H

#include "protocol.h"

/* What the plant does in a period besides following the drive. */
typedef struct {
    uint8_t flags;               /* PROTOCOL_SENSOR_FLAG_ */
    uint32_t elapsed;            /* ticks since the period before; 1 is right */
    int32_t cart_jump, rod_jump; /* counts */
    bool cart_frozen, rod_frozen;
} bench_trouble_t;

typedef struct {
    uint32_t tick, time_us;
    float cart_place;    /* counts that the cart has gone ... */
    int32_t cart_offset; /* ... beyond these */
    int32_t cart_count, rod_count;
    int32_t spin, wanted_spin; /* counts a period */
} bench_plant_t;

/* One period with this set-point [m/s]: what the encoders say at its end. */
protocol_sensors_t bench_plant_step(bench_plant_t *plant, const bench_trouble_t *trouble, float setpoint);

#endif
