/* The board of an emulated chip: hardware in the loop. Encoders, end switches and motor are the plant process
 * (hardware/simulator.py), which talks SENSORS and ACTUATE in the link's own frames over a second serial port
 * or, where the chip has one only, over the same port: then frames are told apart by their type.
 *
 * Everything else in the image is the same object code as on the real board. Not for flashing.
 */
#include "board.h"
#include "framing.h"
#include "image_check.h"
#include "interrupts.h"
#include "pins.h"
#include "plant.h"
#include "stopwatch.h"
#include "tick.h"
#include "uart.h"

#define LINK_PORT  0u
#define PLANT_PORT (PINS_UART_COUNT - 1u)

static struct {
    framing_decoder_t decoder; /* of the port that the plant is on */
    uint32_t time_us;          /* simulated time of the running tick */
    uint32_t nonce;
    uint16_t plant_sequence;
#if PINS_UART_COUNT == 1
    protocol_sensors_t sensors; /* came between link frames and waits to be asked for */
    bool sensors_wait;
    uint8_t raw[FRAMING_MAXIMUM_FRAME_SIZE]; /* the running frame as it came, for the link */
    size_t raw_size, raw_at;
    bool raw_complete;
#endif
} board;

/* Lies in flash before the CRC: what is flashed says itself what it is for. The NUL in front tells where it
 * begins. */
__attribute__((section(".board"), used)) static const char board_identity[] =
    "\0" PINS_BOARD_NAME " hil " PLANT_NAME;

void board_panic(void) {}

void tick_millisecond(void) {} /* never called: the plant's frames are the clock */

/* True when a whole frame was received that nobody has taken yet. */
static bool frame_waits(void) {
#if PINS_UART_COUNT == 1
    return board.sensors_wait || board.raw_complete;
#else
    return false;
#endif
}

void board_wait(void) {
    while (uart_pump()) {
    }
    interrupts_disable();
    if (!uart_received() && !frame_waits()) {
        wait_for_interrupt();
    }
    interrupts_enable();
}

uint32_t board_time_us(void) {
    return board.time_us;
}

uint32_t board_stopwatch_us(void) {
    return stopwatch_us();
}

uint8_t board_reset_cause(void) {
    return PROTOCOL_RESET_CAUSE_UNKNOWN; /* the emulator has no reset controller */
}

uint8_t board_variant(void) {
    return PROTOCOL_VARIANT_HIL;
}

uint32_t board_image_check(void) {
    return image_check();
}

uint32_t board_nonce(void) {
    /* When a HELLO comes is as good as chance here; nothing that moves hangs on an emulated board. */
    board.nonce = (board.nonce ^ stopwatch_us()) * 2654435761u + 1u;
    return board.nonce;
}

const char *board_name(void) {
    return PINS_BOARD_NAME;
}

void board_link_write(const uint8_t *data, size_t size) {
    (void)uart_write(LINK_PORT, data, size); /* no room: the frame is lost whole */
}

#if PINS_UART_COUNT > 1

size_t board_link_read(uint8_t *data, size_t size) {
    return uart_read(LINK_PORT, data, size);
}

bool board_sensors(protocol_sensors_t *sensors) {
    uint8_t byte;
    while (uart_read(PLANT_PORT, &byte, 1) > 0u) {
        const size_t size = framing_push(&board.decoder, byte);
        if (size > 0u && protocol_unpack_sensors(board.decoder.buffer, size, sensors)) {
            board.time_us = sensors->time_us;
            return true;
        }
    }
    return false;
}

#else

/* Takes bytes until a frame is complete. One from the plant is kept for board_sensors(); all others, damaged
 * ones and garbage included, are the link's. */
static void receive_frame(void) {
    while (!board.raw_complete && !board.sensors_wait) {
        uint8_t byte;
        if (uart_read(LINK_PORT, &byte, 1) == 0u) {
            return;
        }
        const size_t size = framing_push(&board.decoder, byte);
        board.raw[board.raw_size++] = byte;
        if (size > 0u && protocol_unpack_sensors(board.decoder.buffer, size, &board.sensors)) {
            board.sensors_wait = true;
            board.raw_size = 0;
        } else if (byte == 0u || board.raw_size == sizeof board.raw) {
            board.raw_complete = true;
            board.raw_at = 0;
        }
    }
}

size_t board_link_read(uint8_t *data, size_t size) {
    size_t count = 0;
    receive_frame();
    while (board.raw_complete && count < size) {
        data[count++] = board.raw[board.raw_at++];
        if (board.raw_at == board.raw_size) {
            board.raw_complete = false;
            board.raw_size = 0;
            receive_frame();
        }
    }
    return count;
}

bool board_sensors(protocol_sensors_t *sensors) {
    receive_frame();
    if (!board.sensors_wait) {
        return false;
    }
    board.sensors_wait = false;
    *sensors = board.sensors;
    board.time_us = sensors->time_us;
    return true;
}

#endif

/* The plant waits for these: there will be room as soon as the transmitter has taken something. */
static void send_plant(const uint8_t *body, size_t size) {
    uint8_t frame[FRAMING_MAXIMUM_FRAME_SIZE];
    const size_t total = framing_encode(body, size, frame);
    board.plant_sequence++;
    while (!uart_write(PLANT_PORT, frame, total)) {
        (void)uart_pump();
    }
}

void board_actuate(const protocol_actuate_t *actuate, uint8_t troubles) {
    (void)troubles; /* the plant's drive follows no encoder */
    uint8_t body[PROTOCOL_ACTUATE_SIZE];
    send_plant(body, protocol_pack_actuate(actuate, board.plant_sequence, body));
}

void board_exchange_done(uint32_t tick) {
    uint8_t body[PROTOCOL_EXCHANGE_DONE_SIZE];
    const protocol_exchange_done_t message = {.tick = tick};
    send_plant(body, protocol_pack_exchange_done(&message, board.plant_sequence, body));
}

int main(void) {
    stopwatch_start();
    for (unsigned port = 0; port < PINS_UART_COUNT; port++) {
        uart_start(port, PINS_LINK_BAUD);
    }
    interrupts_enable();
    /* Whoever emulates this chip learns that it is up: what was sent before was lost. A delimiter first: the
     * reset may have cut a frame. */
    (void)uart_write(PLANT_PORT, (const uint8_t[]){0u}, 1);
    board_exchange_done(PROTOCOL_STARTED_TICK);
    firmware_run();
    return 0;
}
