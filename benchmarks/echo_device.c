/* The other end of `python -m benchmarks.bridge`: a device with no plant, on the master side of a pty.
 *
 *   echo_device --link-fd N --digest HEX --rate-hz F [--drift-ppm F] [--offset-us N] [--bare]
 *
 * It speaks the firmware's protocol with the firmware's own framing: answers HELLO, CONFIG, ARM and DISARM,
 * sends OBSERVATION and TIMING once a period, takes COMMANDs in mode host and HEARTBEATs in the others, and
 * counts what comes too late. It never stops by itself: a missing answer is HELD, and counted. With --bare it
 * sends a frame of OBSERVATION's size and takes any bytes as the answer: what the same pty and the same
 * period cost without a protocol.
 *
 * Its clock is CLOCK_MONOTONIC times (1 + drift), plus an offset, modulo 2^32 us: whoever estimates it can be
 * checked. What this process itself is late is not handed on: a period that begins late moves all that
 * follow. At SIGTERM it prints one JSON object: periods, late ones, answered, held, stale, when the first
 * answer came (CLOCK_MONOTONIC), and the responses in us (sampled to answer read), as counts of a histogram
 * with 1 us buckets.
 */
#define _GNU_SOURCE

#include "framing.h"
#include "plant.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define HISTORY         5u
#define BUCKETS         100000u
#define LATE_SHARE      0.1 /* of a period: later than this is late */
#define NS_A_SECOND     1000000000ll
#define STATISTICS_RATE 1.0 /* Hz */

static struct {
    int link_fd;
    bool bare;
    double rate_hz, drift;
    uint32_t offset_us;
    uint8_t digest[32];
    framing_decoder_t decoder;
    uint16_t send_sequence, receive_sequence;
    bool received_any, greeted;
    uint32_t nonce, session, tick, armed_tick;
    uint8_t state, mode;
    bool answered, acting, accepted;
    uint32_t sampled_us, answered_us, accepted_us;
    int64_t sampled_ns, first_answer_ns;
    uint32_t lost, stale, refused;
    uint32_t periods, late, held, answers;
    uint32_t buckets[BUCKETS];
} device;

static volatile sig_atomic_t ended;

static void end(int number) {
    (void)number;
    ended = 1;
}

static int64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_A_SECOND + now.tv_nsec;
}

static uint32_t device_us(int64_t time_ns) {
    const int64_t drifted_ns = time_ns + (int64_t)((double)time_ns * device.drift);
    return (uint32_t)(drifted_ns / 1000) + device.offset_us;
}

static void put(const uint8_t *data, size_t size) {
    while (size > 0u) {
        const ssize_t count = write(device.link_fd, data, size);
        if (count > 0) {
            data += count;
            size -= (size_t)count;
        } else if (errno != EINTR) {
            return; /* nobody reads: the frame is lost, as on a wire */
        }
    }
}

static void send(const uint8_t *body, size_t size) {
    uint8_t frame[FRAMING_MAXIMUM_FRAME_SIZE];
    put(frame, framing_encode(body, size, frame));
    device.send_sequence++;
}

static void acknowledge(const uint8_t *request, uint8_t result) {
    uint8_t body[PROTOCOL_ACKNOWLEDGE_SIZE];
    const protocol_acknowledge_t message = {
        .request_type = protocol_type(request),
        .request_sequence = protocol_sequence(request),
        .result = result,
    };
    send(body, protocol_pack_acknowledge(&message, device.send_sequence, body));
}

static void send_statistics(void) {
    uint8_t body[PROTOCOL_LINK_STATISTICS_SIZE];
    const framing_decoder_t *decoder = &device.decoder;
    const protocol_link_statistics_t message = {
        .crc_errors = decoder->crc_errors + decoder->garbage + decoder->oversize,
        .lost = device.lost,
        .stale_commands = device.stale,
        .refused = device.refused,
    };
    send(body, protocol_pack_link_statistics(&message, device.send_sequence, body));
}

static void reply_to_hello(const protocol_hello_t *hello) {
    uint8_t body[PROTOCOL_HELLO_REPLY_SIZE];
    protocol_hello_reply_t message = {
        .protocol_version = PROTOCOL_VERSION,
        .host_nonce = hello->host_nonce,
        .device_nonce = ++device.nonce,
        .schema_hash = PROTOCOL_SCHEMA_HASH,
        .period_us = (uint32_t)lround(1e6 / device.rate_hz),
        .base_observation_size = PROTOCOL_BASE_OBSERVATION_SIZE,
        .history = HISTORY,
        .board = "echo",
        .acceleration_limit = PLANT_ACCELERATION_LIMIT,
        .reset_cause = PROTOCOL_RESET_CAUSE_POWER_ON,
        .variant = PROTOCOL_VARIANT_HIL,
    };
    memcpy(message.policy_digest, device.digest, sizeof message.policy_digest);
    send(body, protocol_pack_hello_reply(&message, device.send_sequence, body));
    send_statistics();
    device.greeted = true;
}

/* `feeds`: it is of the kind that feeds the watchdog in this mode; the other kind answers nothing. */
static void take_answer(uint32_t session, uint32_t tick, bool feeds, int64_t time_ns) {
    if (device.state != PROTOCOL_STATE_ARMED || session != device.session) {
        device.refused += session != 0u;
        return;
    }
    if (tick != device.tick) {
        device.stale++;
    } else if (feeds && !device.answered) {
        const int64_t response_us = (time_ns - device.sampled_ns) / 1000;
        device.answered = device.accepted = true;
        device.accepted_us = device_us(time_ns);
        if (device.answers++ == 0u) {
            device.first_answer_ns = time_ns;
        }
        device.buckets[response_us < (int64_t)BUCKETS ? response_us : (int64_t)BUCKETS - 1]++;
    }
}

static void handle(const uint8_t *body, size_t size, int64_t time_ns) {
    protocol_hello_t hello;
    protocol_config_t config;
    protocol_arm_t arm;
    protocol_disarm_t disarm;
    protocol_command_t command;
    protocol_heartbeat_t heartbeat;
    const uint16_t ahead = (uint16_t)(protocol_sequence(body) - device.receive_sequence);
    const bool hello_came = protocol_type(body) == PROTOCOL_HELLO_TYPE;
    if (device.received_any && !hello_came && ahead != 0u && ahead < 0x8000u) {
        device.lost += ahead - 1u;
    }
    device.received_any = true;
    device.receive_sequence = protocol_sequence(body);
    if (protocol_unpack_command(body, size, &command)) {
        take_answer(command.session, command.observation_tick, device.mode == PROTOCOL_MODE_HOST, time_ns);
    } else if (protocol_unpack_heartbeat(body, size, &heartbeat)) {
        take_answer(heartbeat.session, heartbeat.observation_tick, device.mode != PROTOCOL_MODE_HOST,
                    time_ns);
    } else if (protocol_unpack_hello(body, size, &hello)) {
        reply_to_hello(&hello);
    } else if (protocol_unpack_config(body, size, &config)) {
        device.mode = config.mode;
        acknowledge(body, PROTOCOL_RESULT_OK);
    } else if (protocol_unpack_arm(body, size, &arm)) {
        const bool fresh = arm.device_nonce == device.nonce;
        if (fresh && device.state != PROTOCOL_STATE_ARMED) {
            device.session = arm.device_nonce ^ arm.host_nonce;
            device.state = PROTOCOL_STATE_ARMED;
            device.armed_tick = device.tick + 1u;
        }
        acknowledge(body, fresh ? PROTOCOL_RESULT_OK : PROTOCOL_RESULT_BAD_NONCE);
    } else if (protocol_unpack_disarm(body, size, &disarm)) {
        device.state = PROTOCOL_STATE_IDLE;
        acknowledge(body, PROTOCOL_RESULT_OK);
    } else {
        device.refused++;
    }
}

static void take_bytes(void) {
    uint8_t data[256];
    const ssize_t count = read(device.link_fd, data, sizeof data);
    const int64_t time_ns = now_ns();
    if (count <= 0) {
        return;
    }
    if (device.bare) {
        const int64_t response_us = (time_ns - device.sampled_ns) / 1000;
        if (!device.answered && device.periods > 0u) {
            device.answered = true;
            device.answers++;
            device.buckets[response_us < (int64_t)BUCKETS ? response_us : (int64_t)BUCKETS - 1]++;
        }
        return;
    }
    for (ssize_t i = 0; i < count; i++) {
        const size_t size = framing_push(&device.decoder, data[i]);
        if (size > 0u) {
            handle(device.decoder.buffer, size, time_ns);
        }
    }
}

static void send_observation(const float *current, const float *previous, bool held) {
    uint8_t body[PROTOCOL_OBSERVATION_SIZE];
    protocol_observation_t message = {
        .tick = device.tick,
        .time_us = device.sampled_us,
        .state = device.state,
        .flags =
            (uint8_t)(PROTOCOL_OBSERVATION_FLAG_HOMED | PROTOCOL_OBSERVATION_FLAG_CONFIGURED |
                      PROTOCOL_OBSERVATION_FLAG_SELF_TEST_OK | (held ? PROTOCOL_OBSERVATION_FLAG_HELD : 0u)),
    };
    memcpy(message.current, current, sizeof message.current);
    memcpy(message.previous, previous, sizeof message.previous);
    send(body, protocol_pack_observation(&message, device.send_sequence, body));
}

/* A rod that is held upright by somebody with a tremor: numbers that change, as real ones do. */
static void observe(float *current) {
    const double time_s = (double)device.tick / device.rate_hz;
    const double angle = 0.02 * sin(7.0 * time_s);
    current[0] = (float)(0.05 * sin(time_s));
    current[1] = (float)(0.05 * cos(time_s));
    current[2] = (float)sin(angle);
    current[3] = (float)cos(angle);
    current[4] = (float)(0.14 * cos(7.0 * time_s));
}

static void run_period(void) {
    static float current[PROTOCOL_BASE_OBSERVATION_SIZE], previous[PROTOCOL_BASE_OBSERVATION_SIZE];
    uint8_t body[PROTOCOL_TIMING_SIZE];
    const int64_t time_ns = now_ns();
    const uint32_t time_us = device_us(time_ns);
    const bool armed = device.state == PROTOCOL_STATE_ARMED;
    const bool held = armed && device.tick + 1u != device.armed_tick && !device.answered;
    const uint32_t response_us =
        device.accepted ? device.accepted_us - device.sampled_us : PROTOCOL_NO_TIME_US;
    if (armed && device.answered) {
        device.acting = true;
        device.answered_us = device.sampled_us;
    } else if (!armed) {
        device.acting = false;
    }
    device.tick++;
    device.periods++;
    device.held += held;
    device.sampled_us = time_us;
    device.sampled_ns = time_ns;
    device.answered = device.accepted = false;
    memcpy(previous, current, sizeof previous);
    observe(current);
    if (device.bare) {
        uint8_t frame[PROTOCOL_OBSERVATION_SIZE + 4u];
        memset(frame, 0x55, sizeof frame);
        put(frame, sizeof frame);
        return;
    }
    if (!device.greeted) {
        return;
    }
    if (device.tick % (uint32_t)lround(device.rate_hz / STATISTICS_RATE) == 0u) {
        send_statistics();
    }
    send_observation(current, previous, held);
    const protocol_timing_t timing = {
        .tick = device.tick,
        .action_age_us = device.acting ? device_us(now_ns()) - device.answered_us : PROTOCOL_NO_TIME_US,
        .response_us = response_us,
    };
    send(body, protocol_pack_timing(&timing, device.send_sequence, body));
}

static void report(void) {
    const char *separator = "";
    printf("{\"periods\": %u, \"late\": %u, \"answers\": %u, \"held\": %u, \"stale\": %u, \"lost\": %u, "
           "\"refused\": %u, \"damaged\": %u, \"first_answer_ns\": %lld, \"responses_us\": {",
           device.periods, device.late, device.answers, device.held, device.stale, device.lost,
           device.refused, device.decoder.crc_errors + device.decoder.garbage + device.decoder.oversize,
           (long long)device.first_answer_ns);
    for (unsigned i = 0; i < BUCKETS; i++) {
        if (device.buckets[i] > 0u) {
            printf("%s\"%u\": %u", separator, i, device.buckets[i]);
            separator = ", ";
        }
    }
    printf("}}\n");
}

static bool parse_digest(const char *text) {
    for (size_t i = 0; i < sizeof device.digest; i++) {
        unsigned value;
        if (sscanf(text + 2u * i, "%2x", &value) != 1) {
            return false;
        }
        device.digest[i] = (uint8_t)value;
    }
    return true;
}

static bool parse(int count, char **words) {
    device.link_fd = -1;
    bool digest = false;
    for (int i = 1; i < count; i++) {
        const char *name = words[i];
        if (strcmp(name, "--bare") == 0) {
            device.bare = true;
            continue;
        }
        if (++i == count) {
            return false;
        }
        if (strcmp(name, "--link-fd") == 0) {
            device.link_fd = atoi(words[i]);
        } else if (strcmp(name, "--rate-hz") == 0) {
            device.rate_hz = atof(words[i]);
        } else if (strcmp(name, "--drift-ppm") == 0) {
            device.drift = atof(words[i]) * 1e-6;
        } else if (strcmp(name, "--offset-us") == 0) {
            device.offset_us = (uint32_t)strtoul(words[i], NULL, 10);
        } else if (strcmp(name, "--digest") == 0 && strlen(words[i]) == 2u * sizeof device.digest) {
            digest = parse_digest(words[i]);
        } else {
            return false;
        }
    }
    return device.link_fd >= 0 && device.rate_hz >= 1.0 && device.rate_hz <= 1e5 && (digest || device.bare);
}

int main(int count, char **words) {
    if (!parse(count, words)) {
        fprintf(stderr, "error: wrong arguments; expected --link-fd N --rate-hz F (--digest HEX | --bare) "
                        "[--drift-ppm F] [--offset-us N]\n");
        return 2;
    }
    const struct sigaction action = {.sa_handler = end};
    (void)sigaction(SIGTERM, &action, NULL);
    (void)fcntl(device.link_fd, F_SETFL, fcntl(device.link_fd, F_GETFL) | O_NONBLOCK);
    framing_reset(&device.decoder);
    device.nonce = (uint32_t)getpid();
    device.state = PROTOCOL_STATE_IDLE;
    const int64_t period_ns = llround(1e9 / device.rate_hz);
    int64_t next_ns = now_ns() + period_ns;
    while (!ended) {
        const int64_t left_ns = next_ns - now_ns();
        if (left_ns <= 0) {
            if ((double)-left_ns > LATE_SHARE * (double)period_ns) {
                device.late++;
                next_ns -= left_ns;
            }
            next_ns += period_ns;
            run_period();
            continue;
        }
        struct pollfd port = {.fd = device.link_fd, .events = POLLIN};
        const struct timespec wait = {.tv_sec = left_ns / NS_A_SECOND, .tv_nsec = left_ns % NS_A_SECOND};
        if (ppoll(&port, 1, &wait, NULL) > 0) {
            take_bytes();
        }
    }
    report();
    return 0;
}
