#include "bench_plant.h"
#include "plant.h"

#define SPIN_STEP 100 /* counts: how much the rod's speed may change in a period without being a jump */

/* Modulo 2^32, as counters do. */
static int32_t add(int32_t a, int32_t b) {
    const uint32_t sum = (uint32_t)a + (uint32_t)b;
    int32_t value;
    memcpy(&value, &sum, sizeof value);
    return value;
}

protocol_sensors_t bench_plant_step(bench_plant_t *plant, const bench_trouble_t *trouble, float setpoint) {
    const int32_t change = plant->wanted_spin - plant->spin;
    plant->tick += trouble->elapsed;
    plant->time_us += PLANT_PERIOD_US;
    plant->spin += change > SPIN_STEP ? SPIN_STEP : (change < -SPIN_STEP ? -SPIN_STEP : change);
    plant->cart_place += setpoint * PLANT_PERIOD / PLANT_AXIS_PER_COUNT;
    plant->cart_offset = add(add(plant->cart_offset, trouble->cart_jump), (int32_t)plant->cart_place);
    plant->cart_place -= (float)(int32_t)plant->cart_place;
    if (!trouble->cart_frozen) {
        plant->cart_count = plant->cart_offset;
    }
    if (!trouble->rod_frozen) {
        plant->rod_count = add(plant->rod_count, plant->spin);
        plant->rod_count = add(plant->rod_count, plant->tick % 2u == 0u ? 1 : -1);
        plant->rod_count = add(plant->rod_count, trouble->rod_jump);
    }
    return (protocol_sensors_t){
        .tick = plant->tick,
        .time_us = plant->time_us,
        .cart_count = plant->cart_count,
        .rod_count = plant->rod_count,
        .flags = trouble->flags,
    };
}
