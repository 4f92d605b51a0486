#include "link.h"
#include "board.h"
#include "plant.h"

/* What one poll takes at most, so that a flood cannot keep a tick waiting: the rest is for the next. */
#define READ_SIZE     64u
#define READS_A_POLL  32u /* of garbage; more than the fastest line delivers in a period */
#define FRAMES_A_POLL 4u  /* and what came in one piece with the fourth; a host sends two in a period */

void link_start(link_t *link, const link_identity_t *identity) {
    memset(link, 0, sizeof *link);
    framing_reset(&link->decoder);
    link->identity = *identity;
    /* A reset may have cut a frame: without its end the first reply would be taken for the rest of it. */
    board_link_write((const uint8_t[]){0u}, 1u);
}

static void send(link_t *link, const uint8_t *body, size_t size) {
    uint8_t frame[FRAMING_MAXIMUM_FRAME_SIZE];
    board_link_write(frame, framing_encode(body, size, frame));
    link->send_sequence++;
}

static void acknowledge(link_t *link, const uint8_t *request, uint8_t result) {
    uint8_t body[PROTOCOL_ACKNOWLEDGE_SIZE];
    const protocol_acknowledge_t message = {
        .request_type = protocol_type(request),
        .request_sequence = protocol_sequence(request),
        .result = result,
    };
    if (result != PROTOCOL_RESULT_OK) {
        link->refused++;
    }
    send(link, body, protocol_pack_acknowledge(&message, link->send_sequence, body));
}

static void reply_to_hello(link_t *link, const protocol_hello_t *hello) {
    uint8_t body[PROTOCOL_HELLO_REPLY_SIZE];
    const char *name = board_name();
    link->nonce = board_nonce();
    link->nonce_valid = true;
    protocol_hello_reply_t message = {
        .protocol_version = PROTOCOL_VERSION,
        .host_nonce = hello->host_nonce,
        .device_nonce = link->nonce,
        .schema_hash = PROTOCOL_SCHEMA_HASH,
        .period_us = PLANT_PERIOD_US,
        .base_observation_size = PROTOCOL_BASE_OBSERVATION_SIZE,
        .history = link->identity.history,
        .acceleration_limit = PLANT_ACCELERATION_LIMIT,
        .reset_cause = board_reset_cause(),
        .variant = board_variant(),
    };
    memcpy(message.policy_digest, link->identity.policy_digest, sizeof message.policy_digest);
    for (size_t i = 0; i < sizeof message.board && name[i] != '\0'; i++) {
        message.board[i] = name[i];
    }
    send(link, body, protocol_pack_hello_reply(&message, link->send_sequence, body));
    /* What the host counts from: it need not wait for those that come once a second. */
    link_send_statistics(link);
}

static void count_gap(link_t *link, const uint8_t *body) {
    const uint16_t sequence = protocol_sequence(body);
    if (link->received_any && protocol_type(body) != PROTOCOL_HELLO_TYPE) {
        const uint16_t ahead = (uint16_t)(sequence - link->receive_sequence);
        if (ahead != 0u && ahead < 0x8000u) {
            link->lost += (uint32_t)ahead - 1u;
        }
    }
    link->received_any = true;
    link->receive_sequence = sequence;
}

static bool is_fresh(const link_t *link, uint32_t nonce) {
    return link->nonce_valid && nonce == link->nonce;
}

static void handle_config(link_t *link, safety_t *safety, const uint8_t *body,
                          const protocol_config_t *config) {
    const bool nonce_ok = is_fresh(link, config->device_nonce);
    acknowledge(link, body, nonce_ok ? safety_configure(safety, config) : PROTOCOL_RESULT_BAD_NONCE);
}

static void handle_arm(link_t *link, safety_t *safety, const uint8_t *body, const protocol_arm_t *arm) {
    const bool nonce_ok = is_fresh(link, arm->device_nonce);
    if (nonce_ok) {
        link->nonce_valid = false;
    }
    acknowledge(link, body, safety_arm(safety, nonce_ok, arm->device_nonce ^ arm->host_nonce));
}

static void answer_accepted(link_t *link) {
    link->answered = true;
    link->answered_us = board_stopwatch_us();
}

/* Lock-step: the host's answer to the running period has been judged, whatever the verdict. */
static void answer_judged(const safety_t *safety, uint32_t session, uint32_t tick) {
    if (tick == safety->tick && (session == safety->session || session == 0u)) {
        board_exchange_done(tick);
    }
}

static void count_verdict(link_t *link, safety_verdict_t verdict) {
    if (verdict == SAFETY_STALE) {
        link->stale_commands++;
    } else if (verdict == SAFETY_REFUSED) {
        link->refused++;
    }
}

void link_handle(link_t *link, safety_t *safety, const uint8_t *body, size_t size) {
    protocol_hello_t hello;
    protocol_config_t config;
    protocol_arm_t arm;
    protocol_disarm_t disarm;
    protocol_command_t command;
    protocol_heartbeat_t heartbeat;
    count_gap(link, body);
    if (protocol_unpack_command(body, size, &command)) {
        const safety_verdict_t verdict = safety_offer_command(safety, &command);
        count_verdict(link, verdict);
        if (verdict == SAFETY_ACCEPTED) {
            answer_accepted(link);
        }
        answer_judged(safety, command.session, command.observation_tick);
    } else if (protocol_unpack_heartbeat(body, size, &heartbeat)) {
        const bool was_fed = safety->fed_tick == safety->tick;
        count_verdict(link, safety_offer_heartbeat(safety, &heartbeat));
        /* Of the HEARTBEATs that are in order the first one answers that feeds the watchdog for this tick. */
        if (!was_fed && safety->fed_tick == safety->tick) {
            answer_accepted(link);
        }
        answer_judged(safety, heartbeat.session, heartbeat.observation_tick);
    } else if (protocol_unpack_hello(body, size, &hello)) {
        link->greeted = true;
        reply_to_hello(link, &hello);
        if (safety->tick == 0u) {
            board_exchange_done(0u); /* in lock-step time starts when a host is there */
        }
    } else if (protocol_unpack_config(body, size, &config)) {
        handle_config(link, safety, body, &config);
    } else if (protocol_unpack_arm(body, size, &arm)) {
        handle_arm(link, safety, body, &arm);
    } else if (protocol_unpack_disarm(body, size, &disarm)) {
        acknowledge(link, body, safety_disarm(safety, disarm.session));
    } else {
        link->refused++;
    }
}

void link_poll(link_t *link, safety_t *safety) {
    uint8_t data[READ_SIZE];
    unsigned frames = 0;
    for (unsigned reads = 0; reads < READS_A_POLL && frames < FRAMES_A_POLL; reads++) {
        const size_t count = board_link_read(data, sizeof data);
        for (size_t i = 0; i < count; i++) {
            const size_t size = framing_push(&link->decoder, data[i]);
            if (size > 0u) {
                link_handle(link, safety, link->decoder.buffer, size);
                frames++;
            }
        }
        if (count < sizeof data) {
            return;
        }
    }
}

void link_send_observation(link_t *link, const protocol_observation_t *observation) {
    if (link->greeted) {
        uint8_t body[PROTOCOL_OBSERVATION_SIZE];
        send(link, body, protocol_pack_observation(observation, link->send_sequence, body));
    }
}

void link_send_timing(link_t *link, const protocol_timing_t *timing) {
    if (link->greeted) {
        uint8_t body[PROTOCOL_TIMING_SIZE];
        send(link, body, protocol_pack_timing(timing, link->send_sequence, body));
    }
}

void link_send_action(link_t *link, const protocol_action_t *action) {
    if (link->greeted) {
        uint8_t body[PROTOCOL_ACTION_SIZE];
        send(link, body, protocol_pack_action(action, link->send_sequence, body));
    }
}

void link_send_fault(link_t *link, safety_t *safety) {
    uint8_t body[PROTOCOL_FAULT_REPORT_SIZE];
    if (safety->report == PROTOCOL_FAULT_NONE || !link->greeted) {
        return;
    }
    const protocol_fault_report_t message = {
        .reason = safety->report,
        .tick = safety->fault_tick,
        .detail = safety->fault_detail,
    };
    safety->report = PROTOCOL_FAULT_NONE;
    send(link, body, protocol_pack_fault_report(&message, link->send_sequence, body));
}

void link_send_statistics(link_t *link) {
    uint8_t body[PROTOCOL_LINK_STATISTICS_SIZE];
    const framing_decoder_t *decoder = &link->decoder;
    if (!link->greeted) {
        return;
    }
    const protocol_link_statistics_t message = {
        .crc_errors = decoder->crc_errors + decoder->garbage + decoder->oversize,
        .lost = link->lost,
        .stale_commands = link->stale_commands,
        .refused = link->refused,
    };
    send(link, body, protocol_pack_link_statistics(&message, link->send_sequence, body));
}
