/* Whether the counts mean a place: both rail ends have been referenced and the rod hung still, once.
 *
 * Lost with the reference, by a reset, and by homing_spend(): then the reference must be taken away and given
 * anew.
 */
#ifndef HOMING_H
#define HOMING_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    bool homed;
    bool spent;          /* an encoder failed: the reference must go and come back */
    int32_t still_count; /* rod count that stillness is measured from */
    uint16_t still_periods;
} homing_t;

/* One period. Homed after more than PLANT_HOMING_STILL_PERIODS within PLANT_HOMING_STILL_COUNTS. */
void homing_step(homing_t *homing, bool referenced, int32_t rod_count);

/* What the reference says is no longer true. */
static inline void homing_spend(homing_t *homing) {
    homing->spent = true;
}

#endif
