/* An AVR in simavr, its serial port on a socket, as QEMU offers it for other chips.
 *
 *   simavr_runner CHIP CLOCK_HZ SERIAL_FD CONTROL_FD < FLASH_CONTENTS
 *
 * Both descriptors are stream sockets that the parent made. On the control socket 'r' pulls the chip's reset,
 * and '?' is answered with one line of numbers: cycles since the start, the longest stretch of cycles between
 * two sleeps since the last question, and how many bytes from the end of RAM the stack has ever reached.
 *
 * Simulated time never waits for wall-clock time while the chip works; while it sleeps it does not run ahead.
 * Bytes come in at the rate that the serial port is set to. Ends with status 0 when the parent closes.
 */
#define _GNU_SOURCE /* ppoll */

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>

enum {
    INPUT_SIZE = 4096,
    LOOK_CYCLES = 1600, /* how often an idle line is looked at: 0.1 ms at 16 MHz */
    PAINT = 0xA5
};

static struct {
    avr_t *avr;
    avr_irq_t *to_chip;
    int serial, control;
    uint8_t input[INPUT_SIZE];
    size_t input_at, input_size;
    int64_t started_ns;
    avr_cycle_count_t woken, longest;
    bool asleep, reset, listening;
} run;

static void log_errors(avr_t *avr, const int level, const char *format, va_list arguments) {
    (void)avr;
    if (level <= LOG_ERROR) {
        (void)vfprintf(stderr, format, arguments);
    }
}

static int64_t wall_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void fail(const char *what) {
    (void)fprintf(stderr, "simavr_runner: %s\n", what);
    exit(2);
}

static void send_all(int fd, const void *data, size_t size) {
    const uint8_t *bytes = data;
    while (size > 0u) {
        const ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            exit(0); /* the parent is gone */
        } else if (sent > 0) {
            bytes += sent;
            size -= (size_t)sent;
        }
    }
}

static void on_output(struct avr_irq_t *irq, uint32_t value, void *unused) {
    (void)irq, (void)unused;
    const uint8_t byte = (uint8_t)value;
    send_all(run.serial, &byte, 1);
}

static unsigned stack_bytes(void) {
    /* Variables lie lowest and nothing touches what is between them and the stack. */
    unsigned at = run.avr->ramend, untouched = 0, reached = at;
    while (at > 0x100u && untouched < 64u) {
        untouched = run.avr->data[at] == PAINT ? untouched + 1u : 0u;
        reached = untouched == 0u ? at : reached;
        at--;
    }
    return run.avr->ramend + 1u - reached;
}

static void obey(void) {
    char order;
    const ssize_t size = recv(run.control, &order, 1, MSG_DONTWAIT);
    if (size == 0) {
        exit(0);
    }
    if (size < 0) {
        return;
    }
    if (order == 'r') {
        run.reset = true; /* when it sleeps next: then no frame is cut, and the same run has the same bytes */
    } else if (order == '?') {
        char line[80];
        const int length = snprintf(line, sizeof line, "%llu %llu %u\n", (unsigned long long)run.avr->cycle,
                                    (unsigned long long)run.longest, stack_bytes());
        send_all(run.control, line, (size_t)length);
        run.longest = 0;
    }
}

/* Waits at most so long for something to come from the parent. */
static void listen_for(int64_t patience_ns) {
    struct pollfd ends[2] = {{.fd = run.control, .events = POLLIN}, {.fd = run.serial, .events = POLLIN}};
    const struct timespec patience = {.tv_nsec = (long)(patience_ns > 0 ? patience_ns % 1000000000 : 0)};
    const nfds_t count = run.input_at == run.input_size ? 2 : 1;
    if (ppoll(ends, count, &patience, NULL) <= 0) {
        return;
    }
    if (ends[0].revents != 0) {
        obey();
    }
    if (count == 2 && ends[1].revents != 0) {
        const ssize_t size = recv(run.serial, run.input, sizeof run.input, MSG_DONTWAIT);
        if (size == 0) {
            exit(0);
        }
        run.input_at = 0;
        run.input_size = size > 0 ? (size_t)size : 0u;
    }
}

/* Ten bits a byte, 8 or 16 clocks a bit. */
static avr_cycle_count_t byte_cycles(void) {
    const unsigned divider = run.avr->data[0xC4] | (run.avr->data[0xC5] & 0x0Fu) << 8; /* UBRR0 */
    const unsigned clocks = (run.avr->data[0xC0] & 0x02u) != 0u ? 8u : 16u;            /* U2X0 in UCSR0A */
    return 10u * clocks * (divider + 1u);
}

/* A cycle timer: the line delivers its next byte, or is looked at. */
static avr_cycle_count_t on_line(avr_t *avr, avr_cycle_count_t when, void *unused) {
    (void)avr, (void)unused;
    if (run.input_at == run.input_size) {
        listen_for(0);
    }
    if (run.input_at == run.input_size) {
        return when + LOOK_CYCLES;
    }
    avr_raise_irq(run.to_chip, run.input[run.input_at++]);
    return when + byte_cycles();
}

/* When a chip is up and its line delivers is chance, and random numbers that hang on it must not repeat: up
 * to a quarter of a second at 16 MHz. */
static avr_cycle_count_t any_moment(void) {
    uint32_t number = 0;
    if (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) {
        fail("no random number from the system");
    }
    return LOOK_CYCLES + (number & 0x3FFFFFu);
}

/* Called when the chip sleeps, with the cycles until something simulated will happen. */
static void on_sleep(avr_t *avr, avr_cycle_count_t cycles) {
    (void)cycles;
    if (!run.asleep && avr->cycle - run.woken > run.longest) {
        run.longest = avr->cycle - run.woken;
    }
    run.asleep = true;
    if (!run.listening) {
        run.listening = true;
        avr_cycle_timer_register(avr, any_moment(), on_line, NULL);
    }
    if (run.input_at == run.input_size) {
        const int64_t chip_ns = (int64_t)((double)avr->cycle * 1e9 / (double)avr->frequency);
        listen_for(run.started_ns + chip_ns - wall_ns());
    }
}

static void load(avr_t *avr) {
    static uint8_t contents[1 << 17];
    const size_t size = fread(contents, 1, sizeof contents, stdin);
    if (size == 0u || size > avr->flashend + 1u) {
        fail("expected flash contents on standard input that fit the chip");
    }
    avr_loadcode(avr, contents, (uint32_t)size, 0);
    avr->codeend = avr->flashend; /* tables of constants lie there, too */
}

int main(int count, char **arguments) {
    if (count != 5) {
        fail("expected CHIP CLOCK_HZ SERIAL_FD CONTROL_FD");
    }
    avr_global_logger_set(log_errors);
    avr_t *const avr = avr_make_mcu_by_name(arguments[1]);
    if (avr == NULL) {
        fail("simavr knows no such chip");
    }
    (void)avr_init(avr);
    run.avr = avr;
    avr->frequency = (uint32_t)strtoul(arguments[2], NULL, 10);
    avr->sleep = on_sleep;
    run.serial = (int)strtol(arguments[3], NULL, 10);
    run.control = (int)strtol(arguments[4], NULL, 10);
    load(avr);
    memset(&avr->data[0x100], PAINT, (size_t)avr->ramend + 1u - 0x100u);
    uint32_t flags = 0; /* no echo on standard output, no sleeping when polled */
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    run.to_chip = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_INPUT);
    avr_irq_register_notify(avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), UART_IRQ_OUTPUT), on_output, NULL);
    run.started_ns = wall_ns();
    for (;;) {
        const int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            fail(state == cpu_Crashed ? "the chip crashed" : "the chip sleeps with interrupts disabled");
        }
        if (run.asleep && state == cpu_Running) {
            run.asleep = false;
            run.woken = avr->cycle;
        }
        if (run.reset && run.asleep) {
            run.reset = false;
            run.input_at = run.input_size = 0;
            avr_reset(avr); /* forgets all cycle timers */
            run.listening = false;
            run.woken = avr->cycle;
        }
    }
}
