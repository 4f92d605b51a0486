/* External interrupts of an STM32F4 that this board uses. The table ends with the last of them; the ones
 * behind it are never allowed. */
#include "cortex_m.h"
#include "pins.h"
#include "registers.h"
#include "tick.h"

void uart_interrupt_0(void);
void uart_interrupt_1(void);
void step_interrupt(void);

__attribute__((section(".chip_vectors"), used)) static const handler_t chip_vectors[] = {
    PINS_VECTORS,
};
