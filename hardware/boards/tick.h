/* The clock of a real board: an interrupt every millisecond. tick.c in the chip's folder starts it, the board
 * handles it. */
#ifndef TICK_H
#define TICK_H

void tick_start(void);

/* Every millisecond. Defined by the board. */
void tick_millisecond(void);

/* The handler in the vector table; calls tick_millisecond(). */
void tick_interrupt(void);

#endif
