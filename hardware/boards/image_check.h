/* The CRC-32 over a flashed image. */
#ifndef IMAGE_CHECK_H
#define IMAGE_CHECK_H

#include <stdint.h>

/* CRC-32 (reflected 0xEDB88320, as zlib's) over the whole image including the CRC at its end, which the build
 * wrote: BOARD_IMAGE_GOOD when no bit has changed. */
uint32_t image_check(void);

#endif
