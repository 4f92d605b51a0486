/* A timer of 32 bits (2 or 5) whose update events are steps: it counts from one step to the next.
 *
 * Nothing is preloaded, so that a new interval holds for the pulse that is running. A pulse has a width of
 * its own, which is the driver's business and not the speed's: no change of speed can cut or swallow one.
 */
#ifndef STM32F4_STEP_TIMER_H
#define STM32F4_STEP_TIMER_H

#include "pins.h"
#include "registers.h"
#include "step_pace.h"

#define STEP_TIMER_PULSE   (PINS_TIMER_HZ / 1000000u * PINS_STEP_PULSE_NS / 1000u) /* clocks, high */
#define STEP_TIMER_NEVER   0xFFFFFFFFu
#define STEP_TIMER_LONGEST PINS_TIMER_HZ /* a second: what came before it is as if it had come then */

_Static_assert(PINS_STEP_TIMER == 2u || PINS_STEP_TIMER == 5u, "the other timers have 16 bits");

static inline stm32f4_timer_t *step_timer(void) {
    return STM32F4_TIMER(PINS_STEP_TIMER);
}

/* No step from here on; the pulse that is running is completed. */
static inline void step_timer_hold(void) {
    step_timer()->ARR = STEP_TIMER_NEVER;
    if (step_timer()->CNT > STEP_TIMER_LONGEST) {
        step_timer()->CNT = STEP_TIMER_LONGEST; /* it would come to its end after 51 s, and that is a step */
    }
}

static inline uint32_t step_timer_interval(float due, uint32_t passed) {
    return step_pace_interval(due, passed, PINS_TIMER_HZ / 1000u, 2u * STEP_TIMER_PULSE);
}

/* The pace of this millisecond, of which at least 1 step is `due`. True: one was overdue and has been made by
 * a forced update, which starts a pulse at the output but makes no interrupt. */
static inline bool step_timer_run(float due) {
    const uint32_t interval = step_timer_interval(due, step_timer()->CNT);
    step_timer()->ARR = interval - 1u;
    if (step_timer()->CNT < interval) {
        return false;
    }
    step_timer()->ARR = due < 2.0f ? STEP_TIMER_NEVER : step_timer_interval(due - 1.0f, 0u) - 1u;
    step_timer()->EGR = TIMER_EGR_UG;
    return true;
}

#endif
