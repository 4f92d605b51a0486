#include "homing.h"
#include "plant.h"

void homing_step(homing_t *homing, bool referenced, int32_t rod_count) {
    if (!referenced) {
        homing->spent = false;
    }
    if (!referenced || homing->spent) {
        homing->homed = false;
        homing->still_periods = 0;
    } else if (!homing->homed) {
        const uint32_t moved = (uint32_t)rod_count - (uint32_t)homing->still_count;
        if (homing->still_periods == 0u ||
            moved + PLANT_HOMING_STILL_COUNTS > 2u * PLANT_HOMING_STILL_COUNTS) {
            homing->still_count = rod_count;
            homing->still_periods = 1;
        } else {
            homing->still_periods++;
        }
        homing->homed = homing->still_periods > PLANT_HOMING_STILL_PERIODS;
    }
}
