/* External interrupts of an nRF51: the table ends with the last one that is used. */
#include "cortex_m.h"
#include "registers.h"
#include "tick.h"

void uart_interrupt_0(void);

__attribute__((section(".chip_vectors"), used)) static const handler_t chip_vectors[] = {
    [NRF51_INTERRUPT_UART0] = uart_interrupt_0,
    [NRF51_INTERRUPT_TIMER0] = tick_interrupt,
};
