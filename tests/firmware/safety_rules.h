/* What must hold of the device whatever comes over the wire, written from the protocol and not from the code.
 *
 * The rules follow the wire themselves: each frame that the device gets, each answer, each period's sensors
 * and what the drive was told. A rule that is broken prints itself and aborts.
 */
#ifndef SAFETY_RULES_H
#define SAFETY_RULES_H

#include "protocol.h"

typedef struct {
    bool never;       /* damaged image or failed self-test: nothing may ever drive */
    bool nonce_fresh; /* `nonce` was handed out and no ARM has used it */
    uint32_t nonce;
    bool configured;
    protocol_config_t config;
    bool armed;   /* an ARM was granted, and nothing ended that since */
    bool latched; /* a fault was reported that no DISARM has cleared */
    uint32_t session;
    uint32_t fed_tick; /* newest tick that the host has answered */
    bool arm_deserved; /* the running frame is an ARM that may be granted, for this session */
    uint32_t offered_session;
    bool config_deserved; /* ... a CONFIG that may be taken */
    protocol_config_t offered_config;
    bool answer_deserved; /* ... a COMMAND or HEARTBEAT that may be taken for the running tick */
    protocol_sensors_t sensors;
    unsigned referenced_periods;    /* in a row, up to now */
    bool whole;                     /* the last two samples were one period apart */
    uint32_t cart_moved, rod_moved; /* counts between them, modulo 2^32 */
    bool encoder_failed;            /* while the drive was on, and the reference has not gone since */
    bool end_reached;               /* while the drive was on, since the last ARM */
    protocol_actuate_t actuate;
    unsigned braking_periods;
} safety_rules_t;

void rules_start(safety_rules_t *rules, bool never);
void rules_nonce(safety_rules_t *rules, uint32_t nonce);

/* Before the device gets a body whose CRC is right, and after it has. */
void rules_receive(safety_rules_t *rules, const uint8_t *body, size_t size);
void rules_received(safety_rules_t *rules, bool answered);

/* A body that the device sent. */
void rules_sent(safety_rules_t *rules, const uint8_t *body, size_t size);

/* One period: what the plant said, and what the drive was told, with the BOARD_TROUBLE_ bits beside it. */
void rules_period(safety_rules_t *rules, const protocol_sensors_t *sensors, const protocol_actuate_t *actuate,
                  uint8_t troubles);

/* Prints the rule and aborts unless it holds. */
void rules_require(bool holds, const char *rule);

#endif
