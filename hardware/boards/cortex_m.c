/* Start-up of every Cortex-M: the vector table's head, memory, the floating-point unit, and faults. */
#include "cortex_m.h"

#include <stddef.h>

/* Set by the linker script, in words. */
extern uint32_t image_stack_top[], image_data_start[], image_data_end[], image_bss_start[], image_bss_end[];
extern const uint32_t image_data_load[];

/* The C library's sqrtf (where the core has none) sets errno; its own errno would bring 100 bytes of RAM that
 * nothing else uses. */
int *__errno(void) {
    static int number;
    return &number;
}

_Noreturn void chip_reset(void) {
    __asm volatile("dsb" ::: "memory");
    SYSTEM_CONTROL->reset_control = RESET_CONTROL_KEY | RESET_CONTROL_REQUEST;
    for (;;) {
    }
}

_Noreturn void image_panic(void) {
    board_panic();
    chip_reset();
}

/* A stack that overflows runs out of RAM downwards (cortex_m.ld puts it lowest) and comes here, too: nothing
 * may be pushed before there is a stack again. */
__attribute__((naked)) static void unexpected(void) {
    __asm volatile("ldr r0, =image_stack_top\n mov sp, r0\n bl image_panic");
}

_Noreturn void image_reset(void) {
#ifdef __ARM_FP
    SYSTEM_CONTROL->coprocessor_access |= COPROCESSOR_ACCESS_FPU;
    __asm volatile("dsb\n isb" ::: "memory");
#endif
    const uint32_t *from = image_data_load;
    for (uint32_t *to = image_data_start; to < image_data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = image_bss_start; to < image_bss_end; to++) {
        *to = 0u;
    }
    (void)main();
    image_panic();
}

typedef union {
    const void *stack;
    handler_t handler;
} vector_t;

/* NMI, faults, SVCall, debug monitor, PendSV and SysTick: nothing here uses them, so each is a fault. */
__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    {.stack = image_stack_top}, {.handler = image_reset}, {.handler = unexpected}, {.handler = unexpected},
    {.handler = unexpected},    {.handler = unexpected},  {.handler = unexpected}, {.handler = unexpected},
    {.handler = unexpected},    {.handler = unexpected},  {.handler = unexpected}, {.handler = unexpected},
    {.handler = unexpected},    {.handler = unexpected},  {.handler = unexpected}, {.handler = unexpected},
};
