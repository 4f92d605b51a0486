/* A simulated ATmega328P that a parent process drives through standard input and output; little-endian.
 *   'F' address:u32 size:u32 bytes    write flash
 *   'W' address:u32 size:u32 bytes    write data memory
 *   'R' address:u32 size:u32          -> bytes of data memory
 *   'C' function:u32 (bytes) stack:u16 registers:32 bytes low:u16 limit:u64
 *       -> 'D' done, 'L' over the limit of instructions, or 'S' stopped; registers:32 bytes,
 * instructions:u64, cycles:u64, stack_bytes:u32 (painted from `low` to `stack` before the call) The part is
 * given 64 KiB of data memory and 128 KiB of flash: instructions take what they take, policies that do not
 * fit are counted too, and test vectors have room. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <simavr/sim_avr.h>
#include <simavr/sim_core.h>

enum {
    DATA_BYTES = 0x10000,
    FLASH_BYTES = 0x20000,
    PAINT = 0xA5,
    SP_LOW = 0x5D,
    SP_HIGH = 0x5E,
    SREG_SIZE = 8
};

static FILE *reply;

static void quiet(avr_t *avr, const int level, const char *format, va_list arguments) {
    (void)avr, (void)level, (void)format, (void)arguments;
}

static void take(void *bytes, size_t size) {
    if (size != 0u && fread(bytes, size, 1, stdin) != 1u) {
        exit(0);
    }
}

static uint32_t take_u32(void) {
    uint8_t b[4];
    take(b, sizeof b);
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static uint16_t take_u16(void) {
    uint8_t b[2];
    take(b, sizeof b);
    return (uint16_t)(b[0] | b[1] << 8);
}

static void give(uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) {
        putc((int)(value >> (8u * i) & 0xFFu), reply);
    }
}

/* Where in a memory of `limit` bytes the next transfer starts. */
static uint8_t *window(uint8_t *memory, uint32_t limit, uint32_t *size) {
    const uint32_t address = take_u32();
    *size = take_u32();
    if (address > limit || *size > limit - address) {
        exit(2);
    }
    return memory + address;
}

static void call(avr_t *avr) {
    const uint32_t function = take_u32();
    const uint16_t top = take_u16();
    uint8_t registers[32], limits[10];
    take(registers, sizeof registers);
    take(limits, sizeof limits);
    const uint16_t low = (uint16_t)(limits[0] | limits[1] << 8);
    uint64_t limit = 0;
    for (unsigned i = 0; i < 8u; ++i) {
        limit |= (uint64_t)limits[2u + i] << (8u * i);
    }
    /* The last word of flash is where the function returns to; nothing is there. */
    const avr_flashaddr_t after = FLASH_BYTES - 2u;
    const uint16_t sp = (uint16_t)(top - 2u);
    memset(&avr->data[low], PAINT, (size_t)(top - low));
    avr->data[top] = (uint8_t)(after >> 1);
    avr->data[top - 1u] = (uint8_t)(after >> 9);
    avr->data[SP_LOW] = (uint8_t)sp;
    avr->data[SP_HIGH] = (uint8_t)(sp >> 8);
    memcpy(avr->data, registers, sizeof registers);
    memset(avr->sreg, 0, SREG_SIZE);
    avr->state = cpu_Running;
    avr->pc = function;
    const avr_cycle_count_t start = avr->cycle;
    uint64_t instructions = 0;
    while (avr->pc != after && avr->state == cpu_Running && instructions < limit) {
        /* One instruction at a time: a longer run would not say how many it was. */
        avr->run_cycle_count = 1;
        avr->pc = avr_run_one(avr);
        ++instructions;
    }
    uint32_t address = low;
    while (address <= top && avr->data[address] == PAINT) {
        ++address;
    }
    putc(avr->state != cpu_Running ? 'S' : avr->pc == after ? 'D' : 'L', reply);
    fwrite(avr->data, 32, 1, reply);
    give(instructions, 8);
    give(avr->cycle - start, 8);
    give((uint32_t)top + 1u - address, 4);
}

int main(void) {
    /* What the simulator prints is no reply. */
    reply = fdopen(dup(1), "wb");
    if (reply == NULL || dup2(2, 1) < 0) {
        return 1;
    }
    avr_global_logger_set(quiet);
    avr_t *const avr = avr_make_mcu_by_name("atmega328p");
    if (avr == NULL) {
        return 1;
    }
    avr->ramend = DATA_BYTES - 1;
    avr->flashend = FLASH_BYTES - 1;
    avr_init(avr);
    avr->codeend = FLASH_BYTES - 1;
    for (;;) {
        uint32_t size;
        const int command = getchar();
        if (command == 'F') {
            uint8_t *const bytes = window(avr->flash, FLASH_BYTES, &size);
            take(bytes, size);
        } else if (command == 'W') {
            uint8_t *const bytes = window(avr->data, DATA_BYTES, &size);
            take(bytes, size);
        } else if (command == 'R') {
            const uint8_t *const bytes = window(avr->data, DATA_BYTES, &size);
            fwrite(bytes, 1, size, reply);
            fflush(reply);
        } else if (command == 'C') {
            call(avr);
            fflush(reply);
        } else {
            return command == EOF ? 0 : 2;
        }
    }
}
