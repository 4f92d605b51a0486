/* Board `host`: the firmware as a process. Link port: the master side of a pty. Plant port: a stream socket
 * to the plant (hardware/simulator.py), which carries SENSORS, ACTUATE and EXCHANGE_DONE in the link's own
 * frames.
 *
 *   firmware --link-fd N --plant-fd M [--lockstep]     (both descriptors inherited)
 *
 * The process ends with status 0 when the plant closes its socket, and with status 2 on wrong arguments. A
 * link that is closed or not read is no error: its frames are dropped.
 */
#define _GNU_SOURCE /* getentropy, ppoll's relatives: this board is a POSIX host */

#include "board.h"
#include "framing.h"
#include "plant.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINK_QUEUE_SIZE   4096u
#define PLANT_BUFFER_SIZE 256u
#define LINK_RETRY_MS     20 /* how often a link that is hung up is looked at again */

static struct {
    int link_fd;
    int plant_fd;
    bool lockstep;
    bool link_down;
    uint8_t queue[LINK_QUEUE_SIZE]; /* link bytes that the pty has not taken yet */
    size_t queued;
    framing_decoder_t decoder; /* plant port */
    uint8_t input[PLANT_BUFFER_SIZE];
    size_t input_at, input_size;
    uint16_t plant_sequence;
    uint32_t time_us; /* lock-step: of the last SENSORS */
} host;

/* For the simulator, which plays the plant that the image was built for. */
__attribute__((section(".board"), used)) static const char identity[] = "host hil " PLANT_NAME;

static void flush_link(void) {
    while (host.queued > 0u) {
        const ssize_t written = write(host.link_fd, host.queue, host.queued);
        if (written <= 0) {
            if (written < 0 && errno == EIO) { /* nobody holds the other side: what waits is stale */
                host.link_down = true;
                host.queued = 0;
            }
            return;
        }
        host.queued -= (size_t)written;
        memmove(host.queue, host.queue + written, host.queued);
    }
}

void board_wait(void) {
    struct pollfd ports[2] = {
        {.fd = host.plant_fd, .events = POLLIN},
        {.fd = host.link_fd, .events = POLLIN},
    };
    if (host.input_at < host.input_size) {
        return; /* a second plant frame came with the first */
    }
    if (host.queued > 0u) {
        ports[1].events |= POLLOUT;
    }
    /* poll() reports a hang-up again and again: look away for a moment instead of spinning. */
    const nfds_t count = host.link_down ? 1 : 2;
    (void)poll(ports, count, host.link_down ? LINK_RETRY_MS : -1);
    host.link_down = count == 2 && (ports[1].revents & (POLLHUP | POLLERR)) != 0;
    flush_link();
}

uint32_t board_time_us(void) {
    return host.lockstep ? host.time_us : board_stopwatch_us();
}

uint32_t board_stopwatch_us(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)now.tv_sec * 1000000u + (uint32_t)(now.tv_nsec / 1000);
}

size_t board_link_read(uint8_t *data, size_t size) {
    const ssize_t count = read(host.link_fd, data, size);
    return count > 0 ? (size_t)count : 0u;
}

void board_link_write(const uint8_t *data, size_t size) {
    if (size <= sizeof host.queue - host.queued) {
        memcpy(host.queue + host.queued, data, size);
        host.queued += size;
    }
    flush_link();
}

/* Fills the plant buffer when it is empty; ends the process when the plant is gone. */
static void read_plant(void) {
    if (host.input_at < host.input_size) {
        return;
    }
    const ssize_t count = read(host.plant_fd, host.input, sizeof host.input);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        exit(EXIT_SUCCESS);
    }
    host.input_at = 0;
    host.input_size = count > 0 ? (size_t)count : 0u;
}

bool board_sensors(protocol_sensors_t *sensors) {
    read_plant();
    while (host.input_at < host.input_size) {
        const size_t size = framing_push(&host.decoder, host.input[host.input_at++]);
        if (size > 0u && protocol_unpack_sensors(host.decoder.buffer, size, sensors)) {
            if (!host.lockstep) {
                sensors->time_us = board_stopwatch_us(); /* the plant's clock is not this one's */
            }
            host.time_us = sensors->time_us;
            return true;
        }
    }
    return false;
}

/* The plant reads everything: a full socket means that it is about to; a closed one, that it is gone. */
static void send_plant(const uint8_t *body, size_t size) {
    uint8_t frame[FRAMING_MAXIMUM_FRAME_SIZE];
    const size_t total = framing_encode(body, size, frame);
    size_t sent = 0;
    host.plant_sequence++;
    while (sent < total) {
        const ssize_t count = send(host.plant_fd, frame + sent, total - sent, MSG_NOSIGNAL);
        if (count >= 0) {
            sent += (size_t)count;
        } else if (errno == EAGAIN) {
            struct pollfd port = {.fd = host.plant_fd, .events = POLLOUT};
            (void)poll(&port, 1, -1);
        } else if (errno != EINTR) {
            exit(EXIT_SUCCESS);
        }
    }
}

void board_actuate(const protocol_actuate_t *actuate, uint8_t troubles) {
    (void)troubles; /* the plant's drive follows no encoder */
    uint8_t body[PROTOCOL_ACTUATE_SIZE];
    send_plant(body, protocol_pack_actuate(actuate, host.plant_sequence, body));
}

void board_exchange_done(uint32_t tick) {
    uint8_t body[PROTOCOL_EXCHANGE_DONE_SIZE];
    const protocol_exchange_done_t message = {.tick = tick};
    send_plant(body, protocol_pack_exchange_done(&message, host.plant_sequence, body));
}

uint32_t board_nonce(void) {
    static uint32_t drawn;
    uint32_t nonce;
    if (getentropy(&nonce, sizeof nonce) != 0) {
        nonce = (uint32_t)time(NULL) * 2654435761u + (uint32_t)getpid();
    }
    return nonce + ++drawn;
}

const char *board_name(void) {
    return "host";
}

uint8_t board_reset_cause(void) {
    return PROTOCOL_RESET_CAUSE_POWER_ON; /* a process starts once */
}

uint8_t board_variant(void) {
    return PROTOCOL_VARIANT_HIL;
}

uint32_t board_image_check(void) {
    return BOARD_IMAGE_GOOD; /* no flash: the operating system loads the file */
}

static int parse_descriptor(const char *text) {
    char *end;
    const long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 0 || value > 65535 || fcntl((int)value, F_GETFD) < 0) {
        (void)fprintf(stderr, "error: got descriptor %s, expected the number of an open one\n", text);
        exit(2);
    }
    return (int)value;
}

static void set_nonblocking(int descriptor) {
    const int flags = fcntl(descriptor, F_GETFL);
    (void)fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
}

int main(int count, char **arguments) {
    host.link_fd = host.plant_fd = -1;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--lockstep") == 0) {
            host.lockstep = true;
        } else if (strcmp(arguments[i], "--link-fd") == 0 && i + 1 < count) {
            host.link_fd = parse_descriptor(arguments[++i]);
        } else if (strcmp(arguments[i], "--plant-fd") == 0 && i + 1 < count) {
            host.plant_fd = parse_descriptor(arguments[++i]);
        } else {
            host.plant_fd = -1;
            break;
        }
    }
    if (host.link_fd < 0 || host.plant_fd < 0) {
        (void)fprintf(stderr, "usage: firmware --link-fd N --plant-fd M [--lockstep]\n"
                              "       started by `python -m hardware simulate`\n");
        return 2;
    }
    set_nonblocking(host.link_fd);
    set_nonblocking(host.plant_fd);
    /* Ctrl-C goes to the whole terminal; the firmware must live on to brake. It ends with its plant. */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    firmware_run();
    return 0;
}
