#include "image_check.h"

#if defined(__AVR__)
#include <avr/pgmspace.h>
#define FLASH_BYTE(at) pgm_read_byte(at)
#else
#define FLASH_BYTE(at) (*(at))
#endif

extern const uint8_t image_start[], image_end[];

/* The last four bytes of the image; the build puts the CRC of everything before them here. */
__attribute__((section(".image_check"), used)) static const uint32_t stored = 0xFFFFFFFFu;

uint32_t image_check(void) {
    uint32_t crc = 0xFFFFFFFFu;
    for (const uint8_t *at = image_start; at < image_end; at++) {
        crc ^= FLASH_BYTE(at);
        for (unsigned bit = 0; bit < 8u; bit++) {
            crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}
