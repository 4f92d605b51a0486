/* Tables stay in the flash of an AVR; elsewhere, where the same file is tested, they are plain memory. */
#if defined(__AVR__)
#include <avr/pgmspace.h>
#define POLICY_IN_FLASH           PROGMEM
#define POLICY_FLASH_8(place)     pgm_read_byte(place)
#define POLICY_FLASH_16(place)    pgm_read_word(place)
#define POLICY_FLASH_32(place)    pgm_read_dword(place)
#define POLICY_FLASH_FLOAT(place) pgm_read_float(place)
#else
#define POLICY_IN_FLASH
#define POLICY_FLASH_8(place)     (*(place))
#define POLICY_FLASH_16(place)    (*(place))
#define POLICY_FLASH_32(place)    (*(place))
#define POLICY_FLASH_FLOAT(place) (*(place))
#endif
