#include "reset_cause.h"
#include "protocol.h"
#include "registers.h"

#define RESET_PIN  (1u << 0)
#define WATCHDOG   (1u << 1)
#define REQUEST    (1u << 2)
#define LOCK_UP    (1u << 3)
#define SYSTEM_OFF (7u << 16)

uint8_t reset_cause_take(void) {
    const uint32_t flags = NRF51_POWER->RESETREAS;
    NRF51_POWER->RESETREAS = flags; /* a one clears */
    if ((flags & WATCHDOG) != 0u) {
        return PROTOCOL_RESET_CAUSE_WATCHDOG;
    }
    if ((flags & (REQUEST | LOCK_UP)) != 0u) {
        return PROTOCOL_RESET_CAUSE_SOFTWARE;
    }
    if ((flags & SYSTEM_OFF) != 0u) {
        return PROTOCOL_RESET_CAUSE_LOW_POWER;
    }
    if ((flags & RESET_PIN) != 0u) {
        return PROTOCOL_RESET_CAUSE_PIN;
    }
    return PROTOCOL_RESET_CAUSE_POWER_ON; /* no flag is what power-on and brown-out leave: they look alike */
}
