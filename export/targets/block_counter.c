/* Counts how often every basic block runs; Unicorn calls this for each. In C because an inference in soft
 * float runs a hundred thousand blocks. */
#include <stdint.h>

enum { SLOTS = 1 << 16, PROBES = 64 };

typedef struct {
    uint64_t *keys;   /* SLOTS: address << 16 | size of the block in a slot, 0 when free */
    uint64_t *visits; /* SLOTS */
    uint64_t *used;   /* slots in the order in which they were taken */
    uint64_t slots_used;
    uint64_t jumps;    /* blocks that did not follow the one before */
    uint64_t next;     /* address after the last block */
    uint64_t page;     /* 4 KiB that are not counted: where functions return to */
    uint64_t overflow; /* blocks that found no slot */
} block_counter_t;

void count_block(void *engine, uint64_t address, uint32_t size, void *user_data);
void count_block(void *engine, uint64_t address, uint32_t size, void *user_data) {
    block_counter_t *const counter = user_data;
    const uint64_t key = address << 16 | size;
    (void)engine;
    if ((address & ~(uint64_t)0xFFF) == counter->page) {
        return;
    }
    if (address != counter->next) {
        ++counter->jumps;
    }
    counter->next = address + size;
    for (uint32_t probe = 0; probe < PROBES; ++probe) {
        const uint32_t slot = ((uint32_t)((key * 0x9E3779B97F4A7C15u) >> 48) + probe) & (SLOTS - 1);
        if (counter->keys[slot] == 0u) {
            counter->keys[slot] = key;
            counter->used[counter->slots_used++] = slot;
        }
        if (counter->keys[slot] == key) {
            ++counter->visits[slot];
            return;
        }
    }
    ++counter->overflow;
}
