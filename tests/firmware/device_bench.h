/* The whole device under hostile hands: main.c and all that it calls, on a board whose link is a buffer and
 * whose plant does as it is told. Every period and every answer is held against safety_rules.h; what breaks
 * a rule aborts.
 */
#ifndef DEVICE_BENCH_H
#define DEVICE_BENCH_H

#include "link.h"

#include <stdio.h>

typedef struct {
    bool damaged;         /* the image's CRC-32 is wrong */
    bool self_test_fails; /* of the policy */
    bool armed_by_damage; /* with `damaged`: bench_period() arms what safety_arm() refused */
    bool late_start;      /* ticks and microseconds are about to wrap */
} bench_options_t;

/* What the plant does besides following the drive. */
typedef struct {
    uint8_t flags;               /* PROTOCOL_SENSOR_FLAG_ */
    uint32_t elapsed;            /* ticks since the period before; 1 is right */
    int32_t cart_jump, rod_jump; /* counts */
    bool cart_frozen, rod_frozen;
} bench_plant_t;

/* A device that has just been switched on. */
void bench_start(const bench_options_t *options);

/* Bytes that a host, or whoever has its wire, sends. */
void bench_receive(const uint8_t *data, size_t size);

/* One control period. */
void bench_period(const bench_plant_t *plant);

/* The referenced, quiet plant. */
bench_plant_t bench_quiet(void);

/* Counts per second of the rod from now on; the plant takes its time to get there. */
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
