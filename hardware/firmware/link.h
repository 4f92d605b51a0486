/* The device's end of the link: what comes in is judged and offered to the safety machine, what goes out is
 * framed and numbered.
 *
 * The device says nothing by itself until the first HELLO. HELLO, CONFIG, ARM and DISARM are answered;
 * observations and actions are sent once and never again. CONFIG and ARM must echo the nonce of the last
 * HELLO_REPLY; any ARM that echoes it uses it up, so a recorded ARM arms nothing. The session is that nonce ^
 * the host's: new for every ARM, so a recorded COMMAND of an earlier run is refused whatever the host
 * chooses. Sequence gaps of the host are counted; a HELLO starts a new count.
 */
#ifndef LINK_H
#define LINK_H

#include "framing.h"
#include "safety.h"

/* What HELLO_REPLY says about the image. */
typedef struct {
    const uint8_t *policy_digest; /* 32 bytes */
    uint8_t history;              /* frames */
} link_identity_t;

typedef struct {
    framing_decoder_t decoder;
    link_identity_t identity;
    bool greeted; /* a HELLO came since boot */
    bool nonce_valid;
    uint32_t nonce;
    uint16_t send_sequence;
    bool received_any;
    uint16_t receive_sequence;
    uint32_t lost;
    uint32_t stale_commands;
    uint32_t refused;
    bool answered;        /* the running period, by a COMMAND or HEARTBEAT that feeds; main.c clears it */
    uint32_t answered_us; /* board_stopwatch_us() when it was */
} link_t;

void link_start(link_t *link, const link_identity_t *identity);

/* Takes the bytes that are there (a bounded number) and handles every complete frame. */
void link_poll(link_t *link, safety_t *safety);

/* One received body whose CRC was right. */
void link_handle(link_t *link, safety_t *safety, const uint8_t *body, size_t size);

/* Sending; each does nothing before the first HELLO. */
void link_send_observation(link_t *link, const protocol_observation_t *observation);
void link_send_timing(link_t *link, const protocol_timing_t *timing);
void link_send_action(link_t *link, const protocol_action_t *action);
void link_send_fault(link_t *link, safety_t *safety); /* if one waits */
void link_send_statistics(link_t *link);

#endif
