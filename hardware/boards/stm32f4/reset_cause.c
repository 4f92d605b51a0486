#include "reset_cause.h"
#include "protocol.h"
#include "registers.h"

uint8_t reset_cause_take(void) {
    const uint32_t flags = STM32F4_RCC->CSR;
    STM32F4_RCC->CSR = flags | RCC_CSR_RMVF;
    /* Every reset pulls the reset pin, and power-on is a brown-out, too: the rarest cause is asked for first.
     */
    if ((flags & (RCC_CSR_IWDGRSTF | RCC_CSR_WWDGRSTF)) != 0u) {
        return PROTOCOL_RESET_CAUSE_WATCHDOG;
    }
    if ((flags & RCC_CSR_SFTRSTF) != 0u) {
        return PROTOCOL_RESET_CAUSE_SOFTWARE;
    }
    if ((flags & RCC_CSR_LPWRRSTF) != 0u) {
        return PROTOCOL_RESET_CAUSE_LOW_POWER;
    }
    if ((flags & RCC_CSR_PORRSTF) != 0u) {
        return PROTOCOL_RESET_CAUSE_POWER_ON;
    }
    if ((flags & RCC_CSR_BORRSTF) != 0u) {
        return PROTOCOL_RESET_CAUSE_BROWN_OUT;
    }
    return (flags & RCC_CSR_PINRSTF) != 0u ? PROTOCOL_RESET_CAUSE_PIN : PROTOCOL_RESET_CAUSE_UNKNOWN;
}
