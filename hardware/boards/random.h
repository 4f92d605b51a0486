/* Numbers that nobody can foresee. random.c in the chip's folder. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

void random_start(void);

/* Different at every call and after every reset. */
uint32_t random_number(void);

#endif
