/* Registers that every Cortex-M has, and what the start-up code asks of a chip.
 *
 * Architecture: ARMv6-M and ARMv7-M Reference Manuals, chapter "System Control Space".
 */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stddef.h>
#include <stdint.h>

#define SYSTEM_CONTROL_BASE 0xE000E000u
#define SYSTICK             ((volatile systick_t *)(SYSTEM_CONTROL_BASE + 0x010u))
#define NVIC_ENABLE         ((volatile uint32_t *)(SYSTEM_CONTROL_BASE + 0x100u))
#define SYSTEM_CONTROL      ((volatile system_control_t *)(SYSTEM_CONTROL_BASE + 0xD00u))

typedef struct {
    uint32_t control, reload, value, calibration;
} systick_t;

typedef struct {
    uint32_t cpu_id, interrupt_control, vector_table, reset_control, system, configuration, priority[3];
    uint32_t handler_control, fault_status[6], reserved[18], coprocessor_access;
} system_control_t;

_Static_assert(offsetof(system_control_t, coprocessor_access) == 0x88, "CPACR as in the manual");

#define SYSTICK_ENABLE         (1u << 0)
#define SYSTICK_CORE_CLOCK     (1u << 2)
#define SYSTICK_MAXIMUM        0x00FFFFFFu
#define RESET_CONTROL_KEY      0x05FA0000u
#define RESET_CONTROL_REQUEST  (1u << 2)
#define COPROCESSOR_ACCESS_FPU (0xFu << 20)

static inline void interrupts_disable(void) {
    __asm volatile("cpsid i" ::: "memory");
}

static inline void interrupts_enable(void) {
    __asm volatile("cpsie i" ::: "memory");
}

/* Sleeps until an interrupt is pending, also when they are disabled: no wake-up is lost between a check and
 * this. */
static inline void wait_for_interrupt(void) {
    __asm volatile("dsb\n wfi" ::: "memory");
}

static inline void interrupt_allow(unsigned number) {
    NVIC_ENABLE[number / 32u] = 1u << (number % 32u);
}

/* Resets the chip. */
_Noreturn void chip_reset(void);

/* The chip's interrupts, in the order of its vector table from external interrupt 0 on; defined once per
 * chip. Unused entries are 0. */
typedef void (*handler_t)(void);

/* Something that cannot be handled happened (fault, unknown interrupt): switch the drive off at once. Then
 * the chip is reset and comes up disarmed. Defined by the board. */
void board_panic(void);

/* Switches the drive off and resets the chip. */
_Noreturn void image_panic(void);

/* Where the processor starts. */
_Noreturn void image_reset(void);

/* Entry point of the board: starts clocks and ports, then calls firmware_run(). */
int main(void);

#endif
