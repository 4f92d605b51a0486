/* A host that knows everything the wire has carried and says what it likes: messages with chosen fields under
 * a right CRC, damaged and replayed frames. Choices come from a source of bytes: a fuzzer's input or a
 * generator of random numbers.
 */
#ifndef HOSTILE_HOST_H
#define HOSTILE_HOST_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *data; /* NULL: random numbers from `random` on */
    size_t size, at;
    uint32_t random;
} hostile_choices_t;

/* 0 when the input has ended. */
uint8_t hostile_u8(hostile_choices_t *choices);
uint32_t hostile_u32(hostile_choices_t *choices);

/* Forgets what was sent: a new device. */
void hostile_start(void);

/* Sends one message of the host with chosen fields; the sequence goes on. Bytes on the wire. */
size_t hostile_message(hostile_choices_t *choices);

/* ... of which some body bytes are changed, or the size, before the CRC is computed. */
size_t hostile_mutated(hostile_choices_t *choices);

/* Sends a recorded frame once more. */
size_t hostile_replay(hostile_choices_t *choices);

/* Sends bytes that are no frame, up to `size`. */
size_t hostile_bytes(hostile_choices_t *choices, size_t size);

/* What a well-behaved host does: greet, configure, arm; the answer to the running tick; DISARM. */
size_t hostile_greet(void);
size_t hostile_configure(uint8_t mode, uint8_t watchdog_periods, uint8_t untethered);
size_t hostile_arm(void);
size_t hostile_answer(float action);
size_t hostile_disarm(void);

#endif
