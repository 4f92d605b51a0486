/* The whole device under hostile hands: main.c and all that it calls, on a board whose link is a buffer and
 * whose plant does as it is told (bench_plant.h). Every period and every answer is held against
 * safety_rules.h; what breaks a rule aborts.
 */
#ifndef DEVICE_BENCH_H
#define DEVICE_BENCH_H

#include "bench_plant.h"
#include "link.h"

#include <stdio.h>

typedef struct {
    bool damaged;         /* the image's CRC-32 is wrong */
    bool self_test_fails; /* of the policy */
    bool armed_by_damage; /* with `damaged`: bench_period() arms what safety_arm() refused */
    bool late_start;      /* ticks and microseconds are about to wrap */
} bench_options_t;

/* A device that has just been switched on. */
void bench_start(const bench_options_t *options);

/* Bytes that a host, or whoever has its wire, sends. */
void bench_receive(const uint8_t *data, size_t size);

/* One control period. */
void bench_period(const bench_trouble_t *trouble);

/* No trouble: referenced, nothing open. */
bench_trouble_t bench_quiet(void);

/* How fast the rod turns from now on; it takes its time to get there. */
void bench_spin(int32_t counts_a_period);

/* What a host knows that has seen everything: the last nonce, the one before, the running session and tick.
 */
typedef struct {
    uint32_t nonce, earlier_nonce, session, tick;
    uint8_t state, mode;
} bench_view_t;
bench_view_t bench_view(void);

/* Set before bench_start(): every byte that is received is written there, or NULL. */
extern FILE *bench_wire;

/* Everything that was sent and actuated since the program started, as one number (FNV-1a). */
uint32_t bench_trace(void);

/* Frames that reached link_handle(), and periods in which the drive was enabled. */
uint32_t bench_frames(void);
uint32_t bench_driven(void);

#endif
