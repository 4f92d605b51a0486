/* A queue of bytes between one writer and one reader, of which one may be an interrupt. */
#ifndef BYTE_QUEUE_H
#define BYTE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTE_QUEUE_SIZE 256u /* indices wrap by themselves */

typedef struct {
    uint8_t bytes[BYTE_QUEUE_SIZE];
    volatile uint8_t head; /* where the writer puts the next byte */
    volatile uint8_t tail; /* where the reader takes the next byte */
} byte_queue_t;

/* A byte is written before the index that offers it, and read before the index that gives its place away. The
 * processors here do nothing out of order; the compiler would. */
static inline void byte_queue_barrier(void) {
    __asm volatile("" ::: "memory");
}

static inline size_t byte_queue_used(const byte_queue_t *queue) {
    return (uint8_t)(queue->head - queue->tail);
}

/* One place stays free: full and empty must differ. */
static inline size_t byte_queue_room(const byte_queue_t *queue) {
    return BYTE_QUEUE_SIZE - 1u - byte_queue_used(queue);
}

/* False, and nothing is queued, when there is no room. */
static inline bool byte_queue_put(byte_queue_t *queue, uint8_t byte) {
    const uint8_t head = queue->head;
    if (byte_queue_room(queue) == 0u) {
        return false;
    }
    queue->bytes[head] = byte;
    byte_queue_barrier();
    queue->head = (uint8_t)(head + 1u);
    return true;
}

/* The queue must not be empty. */
static inline uint8_t byte_queue_take(byte_queue_t *queue) {
    const uint8_t tail = queue->tail;
    byte_queue_barrier();
    const uint8_t byte = queue->bytes[tail];
    byte_queue_barrier();
    queue->tail = (uint8_t)(tail + 1u);
    return byte;
}

static inline size_t byte_queue_read(byte_queue_t *queue, uint8_t *data, size_t size) {
    size_t count = 0;
    while (count < size && byte_queue_used(queue) > 0u) {
        data[count++] = byte_queue_take(queue);
    }
    return count;
}

static inline bool byte_queue_write(byte_queue_t *queue, const uint8_t *data, size_t size) {
    if (size > byte_queue_room(queue)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        (void)byte_queue_put(queue, data[i]);
    }
    return true;
}

#endif
